"""Results in a destination: a late writer replaces nothing that a later one wrote."""

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import IO

import pytest

from shared.errors import DestinationRefusedError, SourceDeniedError
from shared.object_url import ObjectUrl
from shared.published_results import mark, publish

PLACE = ObjectUrl("shop", "cut/1.png")
T = datetime(2026, 11, 26, tzinfo=UTC)
FIRST, SECOND = mark(T, "a"), mark(T + timedelta(microseconds=1), "a")


class ConditionalStorage:
    """S3's conditional writes in memory. No server from a wheel has them."""

    def __init__(self) -> None:
        self.object: tuple[bytes, str] | None = None
        self.between: list[Callable[[], None]] = []
        """Run one after the other between a look and the write."""

    def written_by(self, place: ObjectUrl) -> tuple[str, str] | None:
        assert place == PLACE
        return None if self.object is None else (self._etag() or "", self.object[1])

    def put_unchanged(
        self,
        place: ObjectUrl,
        data: bytes | bytearray | IO[bytes],
        content_type: str,
        *,
        writer: str,
        etag: str | None,
    ) -> bool:
        assert (place, content_type) == (PLACE, "image/png")
        if self.between:
            self.between.pop(0)()
        if self._etag() != etag:
            return False
        whole = bytes(data) if isinstance(data, bytes | bytearray) else data.read()
        self.object = (whole, writer)
        return True

    def _etag(self) -> str | None:
        return None if self.object is None else hashlib.sha256(self.object[0]).hexdigest()


def write(storage: ConditionalStorage, data: bytes | IO[bytes], writer: str) -> None:
    publish(storage, PLACE, data, "image/png", writer=writer)


@pytest.mark.parametrize("before", [None, (b"a file of somebody", "")])
def test_a_later_claim_replaces_an_earlier_one_and_never_the_other_way_round(
    before: tuple[bytes, str] | None,
) -> None:
    storage = ConditionalStorage()
    storage.object = before
    write(storage, b"1", FIRST)
    write(storage, b"2", SECOND)
    write(storage, b"late", FIRST)
    assert storage.object == (b"2", SECOND)


def test_a_writer_that_froze_between_look_and_write_replaces_nothing() -> None:
    storage = ConditionalStorage()
    storage.between = [lambda: write(storage, b"2", SECOND)]
    write(storage, b"late", FIRST)
    assert storage.object == (b"2", SECOND)


def test_a_writer_whose_answer_was_lost_does_not_write_twice() -> None:
    storage = ConditionalStorage()
    storage.between = [lambda: setattr(storage, "object", (b"1", FIRST))]
    write(storage, b"1", FIRST)
    assert storage.object == (b"1", FIRST)


def test_a_stream_is_written_from_its_beginning_after_an_earlier_writer_came_between() -> None:
    storage = ConditionalStorage()
    storage.between = [lambda: write(storage, b"1", FIRST)]
    write(storage, io.BytesIO(b"whole"), SECOND)
    assert storage.object == (b"whole", SECOND)


def test_a_refusal_of_the_storage_is_final_and_about_the_destination() -> None:
    class Refusing(ConditionalStorage):
        def written_by(self, place: ObjectUrl) -> tuple[str, str] | None:
            raise SourceDeniedError("The storage refuses access to s3://shop/cut/1.png")

    with pytest.raises(DestinationRefusedError, match="refuses access"):
        write(Refusing(), b"1", FIRST)


def test_marks_are_ordered_by_the_time_of_the_claim() -> None:
    times = [T, T + timedelta(microseconds=9), T + timedelta(seconds=10), T + timedelta(days=400)]
    assert [mark(one, "z") for one in times] == sorted(mark(one, "z") for one in times)
    assert len({mark(T, item) for item in "ab"}) == 2
