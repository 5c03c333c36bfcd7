"""Destinations: which templates are taken, what they are filled with, and what collides."""

import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.http.auth import Caller
from api.schemas.requests import JobFields
from api.sources.destination_policy import check_destination
from api.submissions.checked_names import CheckedNames
from shared.destination import destinations, digest_of, fixed_folder, refuse_unknown
from shared.errors import (
    BadResultNameError,
    DestinationCollisionError,
    ForbiddenDestinationError,
    UnknownPlaceholderError,
)
from shared.job_store import NewItem
from shared.object_url import ObjectUrl, as_read_laxly
from shared.options import Options
from shared.result_names import NamedPhoto
from shared.settings import Settings

PHOTO = NamedPhoto("spring/shoe.jpg", "A-1", 7, {"sku": "RED 42", "price": 9.5, "tags": ["a"]})


def template(text: str) -> str:
    checked = JobFields.model_validate({"destination": text}).destination
    assert checked is not None
    return checked


def keys(text: str, photo: NamedPhoto = PHOTO, **options: object) -> list[str]:
    return [one.key for one in destinations(template(text), photo, Options.model_validate(options))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://shop/cut/{sku}.{ext}", "cut/RED 42.png"),
        ("s3://shop/{id}/{n}-{price}.{ext}", "A-1/7-9.5.png"),
        ("s3://shop/{path}.{ext}", "spring/shoe.png"),
        ("s3://shop/{name}.{ext}", "shoe.png"),
        ("s3://shop/{folder}/x/{stem}.{ext}", "spring/x/shoe.png"),
        ("s3://shop/cut/", "cut/spring/shoe.png"),
        ("s3://shop/fixed.png", "fixed.png"),
    ],
)
def test_a_template_is_filled_with_what_is_known_of_the_photo(text: str, expected: str) -> None:
    assert keys(text) == [expected]


def test_a_photo_without_a_folder_has_none_in_its_key() -> None:
    assert keys("s3://shop/{folder}/{name}.{ext}", NamedPhoto("a.jpg")) == ["a.png"]


def test_other_outputs_lie_below_the_fixed_folder() -> None:
    extra = {"name": "{sku}/white.{ext}", "format": "jpeg", "background": "#ffffff"}
    found = keys("s3://shop/cut/{id}.{ext}", output="both", extra_outputs=[extra])
    assert found == ["cut/A-1.png", "cut/A-1-alpha.png", "cut/RED 42/white.jpg"]


@pytest.mark.parametrize(
    "text",
    [
        "cut/{sku}.png",
        "https://shop/{sku}",
        "s3://",
        "s3://shop",
        "s3:///{sku}",
        "s3://{sku}/x",
        "s3://shop//x",
        "s3://shop/a//{sku}",
        "s3://shop/../x",
        "s3://shop/a/./x",
        "s3://shop/%2e%2e/x",
        "s3://shop/a\\x",
        "s3://shop/a\nx",
        "s3://shop/{sku",
        "s3://shop/{}",
        "s3://shop/{sku!r}",
        "s3://shop/{width}.png",
    ],
)
def test_other_templates_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        template(text)


@pytest.mark.parametrize(
    "sku",
    ["", " ", None, "../x", "a/../b", "/x", "x/", "a//b", "%2e%2e/x", "a\x00", "\ud800", [], {}],
)
def test_a_value_that_is_no_part_of_a_path_is_refused(sku: object) -> None:
    with pytest.raises(BadResultNameError, match="`sku`"):
        keys("s3://shop/{sku}.{ext}", NamedPhoto("a.jpg", labels={"sku": sku}))


def test_a_key_that_s3_would_refuse_is_refused_before_work_begins() -> None:
    with pytest.raises(BadResultNameError, match="1,024"):
        keys("s3://shop/{sku}.{ext}", NamedPhoto("a.jpg", labels={"sku": "ü" * 511}))
    assert len(keys("s3://shop/{sku}.{ext}", NamedPhoto("a", labels={"sku": "ü" * 510}))) == 1


def test_a_result_never_replaces_its_own_photo() -> None:
    names = CheckedNames(JobFields.model_validate({"destination": "s3://shop/{path}.{ext}"}))
    with pytest.raises(BadResultNameError, match="own photo"):
        names.add(NewItem(name="a.png", source="s3://shop/a.png"), 1)


ANY = st.text(max_size=20) | st.text(st.sampled_from("./\\%2e\0ａ．／"), max_size=8)


@given(ANY, ANY, ANY, st.sampled_from(["{sku}.{ext}", "{path}/{id}", "{folder}/{name}-{n}"]))
def test_no_value_leads_out_of_the_fixed_folder(sku: str, own: str, name: str, key: str) -> None:
    whole = template(f"s3://shop/cut/{key}")
    try:
        [place] = destinations(whole, NamedPhoto(name, own, 1, {"sku": sku}), Options())
    except BadResultNameError:
        return
    assert str(place).startswith(str(fixed_folder(whole)))
    segments = as_read_laxly(place.key).split("/")
    assert not {"", ".", ".."} & set(segments)
    assert len(place.key.encode()) <= 1_024
    assert ObjectUrl.parse(str(place), "") == place, "S3 takes it for what it is"


@given(st.text(min_size=1, max_size=8))
def test_keys_that_look_alike_collide(name: str) -> None:
    mine = digest_of(ObjectUrl("shop", name))
    for form in ("NFC", "NFD"):
        assert digest_of(ObjectUrl("shop", unicodedata.normalize(form, name))) == mine
    assert digest_of(ObjectUrl("other", name)) != mine


@pytest.mark.parametrize("other", ["Shoe.jpg", "shoe.png"])
def test_two_photos_with_one_key_are_named(other: str) -> None:
    names = CheckedNames(JobFields.model_validate({"destination": "s3://shop/{path}.{ext}"}))
    first = NewItem(name="shoe.jpg", source="s3://photos/1")
    names.add(first, 1)
    names.add(first, 2)  # the same row again is the same image
    with pytest.raises(
        DestinationCollisionError, match=rf"photo 1 \(shoe.jpg\).* photo 3 \({other}"
    ):
        names.add(NewItem(name=other, source="s3://photos/2"), 3)


def test_two_outputs_of_a_photo_with_one_key_are_named() -> None:
    extra = {"name": "shoe.png"}
    fields = {"destination": "s3://shop/{path}.{ext}", "options": {"extra_outputs": [extra]}}
    with pytest.raises(DestinationCollisionError, match="Two outputs of photo 1"):
        CheckedNames(JobFields.model_validate(fields)).add(NewItem(name="shoe.jpg", source="s"), 1)


def test_an_unknown_placeholder_is_named_with_the_one_that_was_meant() -> None:
    refuse_unknown(["SKU", "id"], ["SKU", "id"])
    with pytest.raises(UnknownPlaceholderError, match=r"`\{sky\}`.*Did you mean `\{SKU\}`\?"):
        refuse_unknown(["sky"], ["SKU", "colour"])
    with pytest.raises(UnknownPlaceholderError, match=r"`\{filname\}`.*`\{name\}`"):
        refuse_unknown(["filname"], [])


SETTINGS = Settings(s3_bucket="matting", destinations="s3://shop/cut, s3://matting/")


def caller(sources: tuple[str, ...] | None, own: tuple[str, ...] | None) -> Caller:
    return Caller(uuid.uuid4(), "tests", frozenset(), sources, own)


@pytest.mark.parametrize(
    ("text", "sources", "own", "allowed"),
    [
        ("s3://shop/cut/{n}", None, None, True),
        ("s3://shop/cut/a/{n}", None, None, True),
        ("s3://shop/cutter/{n}", None, None, False),
        ("s3://shop/{n}", None, None, False),
        ("s3://shop/{folder}/cut/{n}", None, None, False),
        ("s3://other/{n}", None, None, False),
        ("s3://matting/out/{n}", None, None, True),
        ("s3://matting/{n}", None, None, False),
        ("s3://matting/jobs/{n}", None, None, False),
        ("s3://matting/uploads/x/{n}", None, None, False),
        ("s3://matting/%6aobs/{n}", None, None, False),
        ("s3://shop/cut/{n}", ("s3://photos/",), None, False),
        ("s3://shop/cut/{n}", ("s3://photos/",), ("s3://shop/cut/",), True),
        ("s3://shop/cut/{n}", None, ("s3://shop/cut/a/",), False),
        ("s3://shop/cut/a/{n}", None, ("s3://shop/cut/a/",), True),
        ("s3://other/{n}", None, ("s3://other/",), False),
    ],
)
def test_results_go_only_where_settings_and_key_allow(
    text: str, sources: tuple[str, ...] | None, own: tuple[str, ...] | None, allowed: bool
) -> None:
    who, whole = caller(sources, own), template(text)
    if allowed:
        check_destination(SETTINGS, who.writable_folders, whole)
        return
    with pytest.raises(ForbiddenDestinationError):
        check_destination(SETTINGS, who.writable_folders, whole)


def test_no_destination_is_open_by_default() -> None:
    for text in ("s3://matting/out/{n}", "s3://shop/{n}"):
        with pytest.raises(ForbiddenDestinationError):
            check_destination(Settings(), None, template(text))
