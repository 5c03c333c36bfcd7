"""A clip by URL is fetched while other clips go on, unless it must run alone."""

import threading
from typing import IO

import pytest

from shared.clips import ClipWork
from shared.errors import MattingError
from shared.options import Options
from shared.settings import Settings
from tests.waiting import eventually
from worker.concurrency.fifo_lock import FifoLock
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.pipeline import clip_files
from worker.pipeline.clip_files import ClipFiles
from worker.pipeline.in_flight import WEB, InFlightImage
from worker.pipeline.work_items import Outcome, WorkItem


class Store:
    """A store whose files take a while."""

    def __init__(self, turn: FifoLock, waits_s: float) -> None:
        """`waits_s`: how long another thread has to take the turn."""
        self._turn = turn
        self._waits_s = waits_s
        self.others_went_on = False

    def fetch(self, _bucket: str, _key: str, _max_bytes: int, into: IO[bytes]) -> None:
        other = threading.Thread(target=self._take, daemon=True)
        other.start()
        other.join(self._waits_s)
        into.write(b"film")

    def _take(self) -> None:
        with self._turn:
            self.others_went_on = True

    def upload(self, key: str, stream: IO[bytes], content_type: str) -> None:
        raise NotImplementedError

    def put(self, key: str, data: bytes, content_type: str) -> None:
        raise NotImplementedError

    def delete(self, key: str) -> None:
        raise NotImplementedError


class StoreWithHolder(Store):
    """Another clip has taken the turn when the file is there, and an image waits to run alone."""

    def __init__(self, turn: FifoLock, isolation: SharedExclusiveLock) -> None:
        super().__init__(turn, 180)
        self._isolation = isolation
        self.may_end = threading.Event()
        self.threads: list[threading.Thread] = []

    def fetch(self, _bucket: str, _key: str, _max_bytes: int, into: IO[bytes]) -> None:
        for work in (self._hold, self._run_alone):
            self.threads.append(threading.Thread(target=work, daemon=True))
            self.threads[-1].start()
        eventually(lambda: self.others_went_on, "another holder of the turn")
        eventually(lambda: self._isolation.exclusive_waits_s > 0, "an image that waits")
        into.write(b"film")

    def _hold(self) -> None:
        with self._turn:
            self.others_went_on = True
            assert self.may_end.wait(180)

    def _run_alone(self) -> None:
        with self._isolation.exclusive():
            pass


def by_url() -> InFlightImage:
    item = WorkItem(
        item_id="1",
        bucket=WEB,
        key="https://slow.example/film.mp4",
        options=Options(),
        outputs=(),
        group=ClipWork(),
    )
    return InFlightImage(item, Outcome(item_id="1"))


def test_a_clip_does_not_wait_for_its_turn_while_an_image_waits_to_run_alone() -> None:
    turn, isolation = FifoLock(), SharedExclusiveLock()
    store = StoreWithHolder(turn, isolation)
    files = ClipFiles(store, Settings(), turn, threading.Event(), isolation)
    in_flight = by_url()
    with turn, isolation.shared(slow=True), pytest.raises(MattingError):
        files.file_of(in_flight)
    assert in_flight.outcome.interrupted
    store.may_end.set()
    for thread in store.threads:
        thread.join(180)
        assert not thread.is_alive()


@pytest.mark.parametrize("alone", [False, True])
def test_a_clip_that_must_run_alone_keeps_its_turn(alone: bool) -> None:
    turn, isolation = FifoLock(), SharedExclusiveLock()
    store = Store(turn, 0.5 if alone else 180)
    files = ClipFiles(store, Settings(), turn, threading.Event(), isolation)
    held = isolation.exclusive() if alone else isolation.shared(slow=True)
    with turn, held:
        file = files.file_of(by_url())
        assert file.read_bytes() == b"film"
        assert store.others_went_on is not alone
        files.forget()


def test_a_clip_that_waits_for_a_place_lets_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be are fetched already, from slow servers."""
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(clip_files, "_aside", places)
    assert places.acquire()
    turn, isolation, at_work = FifoLock(), SharedExclusiveLock(), threading.Event()

    class FromUrl(Store):
        def fetch(self, _bucket: str, _key: str, _max_bytes: int, into: IO[bytes]) -> None:
            self.others_went_on = at_work.is_set()
            into.write(b"film")

    def work_on_another() -> None:
        with turn:
            at_work.set()
            places.release()

    store = FromUrl(turn, 0)
    files = ClipFiles(store, Settings(), turn, threading.Event(), isolation)
    other = threading.Thread(target=work_on_another, daemon=True)
    with turn, isolation.shared(slow=True):
        other.start()
        assert files.file_of(by_url()).read_bytes() == b"film"
        files.forget()
    other.join(180)
    assert store.others_went_on
    assert places.acquire(blocking=False), "the place is free again"


def test_a_fetch_ends_when_an_image_has_waited_long_to_run_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clip_files, "LONGEST_HOLD_UP_S", 0.0)
    turn, isolation = FifoLock(), SharedExclusiveLock()

    def run_alone() -> None:
        with isolation.exclusive():
            pass

    waiting = threading.Thread(target=run_alone, daemon=True)

    class Endless(Store):
        def fetch(self, _bucket: str, _key: str, _max_bytes: int, into: IO[bytes]) -> None:
            into.write(b"fi")
            waiting.start()
            eventually(lambda: isolation.exclusive_waits_s > 0, "an image that waits")
            into.write(b"lm")

    files = ClipFiles(Endless(turn, 0), Settings(), turn, threading.Event(), isolation)
    in_flight = by_url()
    with turn, isolation.shared(slow=True), pytest.raises(MattingError):
        files.file_of(in_flight)
    assert in_flight.outcome.interrupted
    waiting.join(180)
    assert not waiting.is_alive()
