"""Manifests: reading CSV and JSON lines, and rejecting bad rows."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.sources.manifests import read_rows
from api.sources.rows import RowReader
from api.sources.source_policy import SourcePolicy, plain_name
from shared.errors import BadManifestError
from shared.options import Format, Options
from shared.settings import Settings

OWNER = uuid.UUID(int=7)
READER = RowReader(SourcePolicy(Settings(source_buckets="photos"), OWNER), Options())


def rows(text: str | bytes, size: int = 7) -> list[dict[str, Any]]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_rows(data[start : start + size] for start in range(0, len(data), size)))


def test_csv_keeps_the_caller_s_own_columns() -> None:
    text = "Key,ID,sku,options.format\nphotos/a.jpg,1,RED-1,webp\n\nphotos/b.jpg,,,\n"
    first, second = rows(text)
    assert first == {"key": "photos/a.jpg", "id": "1", "sku": "RED-1", "options.format": "webp"}
    assert second == {"key": "photos/b.jpg"}
    item = READER.item(first, 1)
    assert (item.custom_id, item.labels) == ("1", {"sku": "RED-1"})
    assert Options.model_validate(item.options).format is Format.WEBP


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_csv_from_spreadsheets_is_read(delimiter: str, mark: str, newline: str) -> None:
    row = f'https://x.example/ä.jpg{delimiter}"a\nb, ""c"""'
    text = newline.join([f"url{delimiter}title", row])
    [found] = rows((mark + text).encode())
    assert found == {"url": "https://x.example/ä.jpg", "title": 'a\nb, "c"'}


def test_a_bad_row_fails_alone() -> None:
    text = '{"key": "a.jpg"}\nnonsense\n[1]\n{"key": "b.jpg", "url": "https://x.example/b.jpg"}\n'
    items = [READER.item(row, number) for number, row in enumerate(rows(text), 1)]
    assert [item.error.code if item.error else None for item in items] == [
        None,
        "bad-manifest-row",
        "bad-manifest-row",
        "bad-manifest-row",
    ]
    assert len({item.source for item in items}) == 4


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"key": "s3://elsewhere/a.jpg"}, "forbidden-source"),
        ({"key": "jobs/1/results/a.png"}, "forbidden-source"),
        ({"key": "a/%2e%2e/b.jpg"}, "forbidden-source"),
        ({"key": f"uploads/{uuid.UUID(int=8)}/x"}, "forbidden-source"),
        ({"url": "file:///etc/passwd"}, "forbidden-url"),
        ({"url": "https://user:secret@x.example/a.jpg"}, "forbidden-url"),
        ({"key": "a.jpg", "options": "{"}, "invalid-options"),
        ({"key": "a.jpg", "options": {"format": "gif"}}, "invalid-options"),
        ({"key": "a.jpg", "own": "x" * 20_000}, "bad-manifest-row"),
    ],
)
def test_rows_may_name_the_same_sources_as_requests(row: dict[str, Any], code: str) -> None:
    error = READER.item(row, 1).error
    assert error is not None
    assert error.code == code


def test_a_key_s_own_upload_may_be_named() -> None:
    item = READER.item({"key": f"uploads/{OWNER}/x"}, 1)
    assert item.error is None
    assert item.source == f"s3://matting/uploads/{OWNER}/x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "name,size\na,1\n",
        "key,key\na,b\n",
        b"PK\x03\x04 a workbook",
        b"url\n\0\0\0\0zeros",
        b"\xff\xfe\0\0k\0\0\0",
        'url,title\nhttps://x.example/a.jpg,"never closed\nhttps://x.example/b.jpg,b\n',
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "x">]><rss><item/></rss>',
        "<rss><channel/></rss>",
        "<rss><item>",
        'key\n"' + "x" * 200_000,
    ],
)
def test_a_file_that_is_no_manifest_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadManifestError):
        rows(text, size=4_096)


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@given(st.lists(st.dictionaries(cells, cells, max_size=4), max_size=8), st.integers(1, 64))
def test_json_lines_keep_the_caller_s_values(objects: list[dict[str, str]], size: int) -> None:
    text = "".join(json.dumps(one) + "\n" for one in [{"key": "a"}, *objects])
    assert rows(text, size) == [{"key": "a"}, *objects]


@given(st.binary(max_size=400), st.integers(1, 64))
def test_arbitrary_bytes_give_rows_or_an_error(data: bytes, size: int) -> None:
    try:
        found = rows(data, size)
    except BadManifestError:
        return
    for number, row in enumerate(found, 1):
        assert READER.item(row, number).source


@given(st.text(max_size=60))
def test_a_plain_name_stays_in_its_folder(text: str) -> None:
    segments = plain_name(text).split("/")
    assert segments
    assert not {"", ".", ".."} & set(segments)
    assert "\\" not in plain_name(text)


def test_a_list_of_blanks_is_refused_before_it_fills_the_memory() -> None:
    chunks = iter([b"\n" * 65_536] * 1_000)
    with pytest.raises(BadManifestError):
        list(read_rows(chunks))
    assert sum(1 for _ in chunks) > 900


def test_a_file_that_was_left_out_has_no_columns_of_the_caller() -> None:
    left_out = READER.item({"name": "notes.txt", "left_out": "not-a-photo"}, 1)
    assert left_out.error is not None
    assert left_out.error.code == "left-out"
    assert (left_out.name, left_out.labels) == ("notes.txt", None)
    wrong = READER.item({"upload": "s3://photos/x.jpg", "name": "x.jpg"}, 2)
    assert (wrong.error is not None, wrong.labels) == (True, None)
    assert READER.item({"key": 5, "colour": "red"}, 3).labels == {"colour": "red"}
