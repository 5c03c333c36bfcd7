"""The lock that is taken in turn."""

import threading

from tests.waiting import eventually
from worker.concurrency.fifo_lock import FifoLock


def test_a_thread_that_takes_it_again_waits_behind_the_others() -> None:
    lock, order = FifoLock(), list[str]()

    def take() -> None:
        with lock:
            order.append("other")

    other = threading.Thread(target=take)
    with lock:
        other.start()
        eventually(lambda: len(lock._turns) == 2, "the other thread to wait")
        order.append("first")
    with lock:
        order.append("first again")
    other.join()
    assert order == ["first", "other", "first again"]


def test_only_one_thread_holds_it() -> None:
    lock, inside, most = FifoLock(), 0, 0

    def take() -> None:
        nonlocal inside, most
        for _ in range(50):
            with lock:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
