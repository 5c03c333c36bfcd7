"""The thread pool: small batches overtake large ones, callers get their errors, closing waits for
all work.
"""

import threading

import pytest

from shared.errors import TransientError
from worker.concurrency.thread_pool import SmallestBatchFirstPool


def test_small_batches_run_first_and_equal_ones_in_order() -> None:
    pool = SmallestBatchFirstPool(1, "test")
    gate = threading.Event()
    done: list[str] = []
    held = pool.submit(1, gate.wait, 10)
    for size, name in ((8, "a"), (8, "b"), (1, "c"), (3, "d"), (1, "e")):
        pool.submit(size, done.append, name)
    gate.set()
    assert held.result(180)
    pool.shutdown()
    assert done == ["c", "e", "d", "a", "b"]


def test_what_feeds_the_device_overtakes_what_comes_after_it() -> None:
    pool = SmallestBatchFirstPool(1, "test")
    gate = threading.Event()
    done: list[str] = []
    held = pool.submit(1, gate.wait, 10)
    pool.submit_last(8, done.append, "finish 1")
    pool.submit_last(1, done.append, "finish the small one")
    pool.submit(8, done.append, "decode 2")
    gate.set()
    assert held.result(180)
    pool.shutdown()
    assert done == ["finish the small one", "decode 2", "finish 1"]


def test_an_error_reaches_its_caller_and_the_thread_continues() -> None:
    pool = SmallestBatchFirstPool(1, "test")
    with pytest.raises(ZeroDivisionError):
        pool.submit(1, lambda: 1 // 0).result(180)
    assert pool.submit(1, sum, (1, 2)).result(180) == 3
    pool.shutdown()
    with pytest.raises(TransientError):
        pool.submit(1, sum, (1, 2))


def test_threads_run_in_parallel() -> None:
    pool = SmallestBatchFirstPool(3, "test")
    together = threading.Barrier(3)
    waiting = [pool.submit(1, together.wait, 10) for _ in range(3)]
    assert {one.result(180) for one in waiting} == {0, 1, 2}
    pool.shutdown()
