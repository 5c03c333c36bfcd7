"""Lists are read in turns: no damage, blank lines or way to the cursor takes long."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from api.sources import listing
from api.sources.list_text import MAX_LINE_CHARS
from api.sources.listed_pages import Page, Pause
from shared.errors import BadManifestError
from shared.models import Job
from shared.options import Options
from shared.settings import Settings

CHUNK = 64 * 1024


class Lists:
    """A storage with one list, which counts the bytes that were read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0

    def stream(self, _bucket: str, _key: str) -> Iterator[bytes]:
        for start in range(0, len(self.data), CHUNK):
            piece = self.data[start : start + CHUNK]
            self.read_bytes += len(piece)
            yield piece


def pages_of(storage: Lists, cursor: str | None = None) -> Iterator[Page | Pause]:
    settings: Any = Settings.model_construct(s3_bucket="b", source_buckets="photos")
    job = Job(
        id=uuid.uuid4(),
        api_key_id=uuid.uuid4(),
        options=Options().model_dump(mode="json"),
        source={"kind": "manifest", "object": "s3://b/list.jsonl"},
        expansion_cursor=cursor,
    )
    given: Any = storage
    return listing.pages(job, given, settings, None)


ROW = b'{"key": "s3://photos/1.jpg"}\n'


def test_the_rest_of_a_damaged_list_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "COUNTED_BYTES", 1024**2)
    damaged = ROW + b"x" * 3 * MAX_LINE_CHARS + b"\n"
    huge = Lists(damaged + 300_000 * ROW)
    with pytest.raises(BadManifestError) as raised:
        list(pages_of(huge))
    assert "1 were read, the file has more than" in raised.value.detail
    assert huge.read_bytes < 3 * 1024**2
    with pytest.raises(BadManifestError) as raised:
        list(pages_of(Lists(damaged + 10 * ROW)))
    assert "1 were read, the file has 12 lines" in raised.value.detail


@pytest.mark.parametrize("blank", [b"\n", b",,\n"])
def test_a_list_of_blank_lines_without_end_is_given_up(
    blank: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "EMPTY_BYTES", 256 * 1024)
    row = b"key,a,b\ns3://photos/1.jpg,,\n"
    fine = row + 256 * 1024 // len(blank) // 2 * blank + b"s3://photos/2.jpg,,\n"
    assert [len(page.items) for page in pages_of(Lists(fine)) if isinstance(page, Page)] == [2]
    endless = Lists(row + 1024**2 // len(blank) * blank)
    with pytest.raises(BadManifestError, match="contain no row"):
        list(pages_of(endless))


def test_the_way_to_the_cursor_is_read_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SKIPPED_BYTES", 2 * CHUNK)
    found = list(pages_of(Lists(20_000 * ROW), "19999"))
    assert [page.cursor for page in found if isinstance(page, Page)] == ["20000"]
    assert 2 <= sum(isinstance(page, Pause) for page in found) <= 5
