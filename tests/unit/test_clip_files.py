"""A clip by URL is fetched while other clips go on, unless it must run alone."""

import threading
from typing import IO

import pytest

from shared.clips import ClipWork
from shared.options import Options
from shared.settings import Settings
from worker.concurrency.fifo_lock import FifoLock
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.pipeline.clip_files import ClipFiles
from worker.pipeline.in_flight import WEB, InFlightImage
from worker.pipeline.work_items import Outcome, WorkItem


class Store:
    """A store whose files take a while."""

    def __init__(self, turn: FifoLock) -> None:
        self._turn = turn
        self.others_went_on = False

    def fetch(self, _bucket: str, _key: str, _max_bytes: int, into: IO[bytes]) -> None:
        other = threading.Thread(target=self._take, daemon=True)
        other.start()
        other.join(1)
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


@pytest.mark.parametrize("alone", [False, True])
def test_a_clip_that_must_run_alone_keeps_its_turn(alone: bool) -> None:
    turn, isolation = FifoLock(), SharedExclusiveLock()
    store = Store(turn)
    files = ClipFiles(store, Settings(), turn, threading.Event(), isolation)
    item = WorkItem(
        item_id="1",
        bucket=WEB,
        key="https://slow.example/film.mp4",
        options=Options(),
        outputs=(),
        group=ClipWork(),
    )
    held = isolation.exclusive() if alone else isolation.shared(slow=True)
    with turn, held:
        file = files.file_of(InFlightImage(item, Outcome(item_id="1")))
        assert file.read_bytes() == b"film"
        assert store.others_went_on is not alone
        files.forget()
