"""Result names from templates: none leaves its folder, and none equals another."""

from pathlib import Path, PurePosixPath
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.client import NamedItem, output_names
from api.client.downloading import plan_downloads
from api.client.responses import Item
from api.sources.source_policy import name_under
from shared.result_names import NamedPhoto, check_template, file_name


@pytest.mark.parametrize(
    ("template", "photo", "expected"),
    [
        (None, "a/b.jpg", "a/b.png"),
        ("{stem}-white.{ext}", "a/b.jpg", "b-white.png"),
        ("{folder}/small/{stem}-{width}x{height}.{ext}", "a/b.jpg", "a/small/b-30x20.png"),
        ("{folder}/{stem}.{ext}", "b.jpg", "b.png"),
        ("{path}.{ext}", "archive.tar.gz", "archive.tar.png"),
        ("fixed", "a/b.jpg", "fixed"),
    ],
)
def test_a_template_is_filled_in(template: str | None, photo: str, expected: str) -> None:
    assert file_name(template, NamedPhoto(photo), "png", 30, 20) == expected


@given(st.text(max_size=40), st.sampled_from([None, "{path}.{ext}", "x/{stem}/{folder}.{ext}"]))
def test_no_photo_s_name_leaves_the_folder(photo: str, template: str | None) -> None:
    segments = file_name(template, NamedPhoto(photo), "png", 1, 1).split("/")
    assert segments
    assert not {"", ".", ".."} & set(segments)


NAMES = st.text(st.sampled_from("./\\ab:\0 "), max_size=12) | st.text(max_size=20)


@given(NAMES, st.sampled_from(["", "in/", "in/a"]))
def test_no_key_s_name_leaves_the_prefix(rest: str, prefix: str) -> None:
    segments = name_under(prefix, prefix + rest).split("/")
    assert segments
    assert not {"", ".", ".."} & set(segments)
    assert "\\" not in "".join(segments)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a:b?.jpg", "a_b_.png"),
        ("CON/x.jpg", "_CON/x.png"),
        ("aux.jpg", "_aux.png"),
        ("console/com10.jpg", "console/com10.png"),
        ("shop. /a.jpg", "shop__/a.png"),
        ("größe – 靴.jpg", "größe – 靴.png"),
        (".hidden.jpg", ".hidden.png"),
    ],
)
def test_every_system_can_write_a_downloaded_result(name: str, expected: str) -> None:
    outputs = [{"name": str(PurePosixPath(name).with_suffix(".png")), "url": "/", "bytes": 1}]
    item = {"name": name, "result_format": "png", "outputs": outputs}
    assert output_names([cast(NamedItem, item)]) == [[expected]]


def test_names_that_become_one_get_numbers() -> None:
    items = [
        {"name": name, "result_format": "png", "outputs": [{"name": f"{name[:-4]}.png"}]}
        for name in ("a:b.jpg", "a?b.jpg", "a_b.jpg")
    ]
    names = [one for [one] in output_names(cast(list[NamedItem], items))]
    assert len({*names}) == 3


NAMED = NAMES.filter(lambda name: PurePosixPath(name).name)


@given(NAMED, NAMED)
def test_no_answer_makes_a_download_leave_its_folder(name: str, other: str) -> None:
    outputs = [{"name": name, "url": "/", "bytes": 1}, {"name": other, "url": "/", "bytes": 1}]
    item = {"name": other, "result_format": "png", "outputs": outputs, "status": "succeeded"}
    [download] = plan_downloads([cast(Item, {**item, "id": "1"})], Path("/somewhere/out"))
    for path in download.paths:
        assert Path("/somewhere/out") in (path, *path.parents)
        assert ".." not in path.parts


@pytest.mark.parametrize("template", ["{0}", "{stem!r}", "{stem.__class__}", "a/../b", "\\x", "\n"])
def test_invalid_templates_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="`name`"):
        check_template(template)


def item(name: str, *outputs: str) -> NamedItem:
    named = {"name": name, "result_format": "jpg", "outputs": [{"name": one} for one in outputs]}
    return cast(NamedItem, named)


def test_files_of_different_items_have_different_names() -> None:
    items = [
        item("a/x.jpg", "a/x.jpg", "thumb.webp"),
        item("a/y.jpg", "a/y.jpg", "thumb.webp"),
        item("a/X.png", "a/X.jpg", "a/x.jpg"),
        item("z.jpg"),
        item("z.jpg", "named.jpg"),
    ]
    names = output_names(items)
    assert names[1][1] == "thumb-2.webp"
    assert names[4] == ["named.jpg"]
    flat = [name.casefold() for mine in names for name in mine]
    assert len(set(flat)) == len(flat)
