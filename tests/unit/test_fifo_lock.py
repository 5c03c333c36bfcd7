"""The lock that is taken in turn."""

import threading

import pytest

from tests.waiting import eventually
from worker.concurrency.fifo_lock import FifoLock, TurnGivenUpError


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


def test_it_is_lent_to_those_that_wait_and_taken_again_behind_them() -> None:
    lock, order = FifoLock(), list[str]()

    def take() -> None:
        with lock:
            order.append("other")

    other = threading.Thread(target=take)
    with lock, lock:
        with lock.lent(lambda: False):
            other.start()
            other.join()
            order.append("meanwhile")
        order.append("again")
        other = threading.Thread(target=take)
        other.start()
        eventually(lambda: len(lock._turns) == 2, "the other thread to wait")
    other.join()
    assert order == ["other", "meanwhile", "again", "other"]


def test_a_thread_that_gives_up_its_turn_does_not_hold_it() -> None:
    lock, lent, done = FifoLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            lent.set()
            done.wait(180)

    def lend() -> None:
        with lock, lock.lent(lent.is_set):
            other.start()
            assert lent.wait(180)

    other = threading.Thread(target=hold)
    with pytest.raises(TurnGivenUpError):
        lend()
    done.set()
    other.join()
    with lock:
        assert len(lock._turns) == 1
