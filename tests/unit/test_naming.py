"""Names from templates: what they may be, and that none leaves its folder or meets another."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.client import NamedItem, output_names
from shared.naming import check_template, file_name


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
    assert file_name(template, photo, "png", 30, 20) == expected


@given(st.text(max_size=40), st.sampled_from([None, "{path}.{ext}", "x/{stem}/{folder}.{ext}"]))
def test_no_photo_s_name_leads_out_of_the_folder(photo: str, template: str | None) -> None:
    segments = file_name(template, photo, "png", 1, 1).split("/")
    assert segments
    assert not {"", ".", ".."} & set(segments)


@pytest.mark.parametrize("template", ["{0}", "{stem!r}", "{stem.__class__}", "a/../b", "\\x", "\n"])
def test_templates_that_mean_something_else_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="`name`"):
        check_template(template)


def item(name: str, *outputs: str) -> NamedItem:
    named = {"name": name, "result_format": "jpg", "outputs": [{"name": one} for one in outputs]}
    return cast(NamedItem, named)


def test_files_of_several_items_never_meet() -> None:
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
