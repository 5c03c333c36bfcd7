"""Batches share the worker, or one runs alone."""

import threading
from collections.abc import Callable

from tests.waiting import eventually
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_who_must_run_alone_waits_for_a_hanging_url_and_nobody_else_waits_with_it() -> None:
    lock, answered, alone = SharedExclusiveLock(), threading.Event(), threading.Event()
    asked, ended = threading.Event(), threading.Event()

    def hanging_url() -> None:
        with lock.shared(slow=True):
            asked.set()
            answered.wait(180)

    def suspect() -> None:
        with lock.exclusive():
            alone.set()
            ended.wait(180)

    def later_url() -> None:
        with lock.shared(slow=True):
            assert alone.is_set()

    def batch() -> None:
        with lock.shared():
            pass

    threads = [started(hanging_url)]
    assert asked.wait(180)
    threads.append(started(suspect))
    eventually(lambda: lock._exclusive_announced, "the suspect to wait")
    threads.append(started(later_url))
    batch()  # does not wait
    assert not alone.is_set()
    assert lock.exclusive_waits_s > 0
    answered.set()
    assert alone.wait(180)
    assert lock.exclusive_waits_s == 0
    blocked = started(batch)
    blocked.join(0.1)
    assert blocked.is_alive(), "nothing runs beside it"
    ended.set()
    for thread in (*threads, blocked):
        thread.join(180)
        assert not thread.is_alive()
