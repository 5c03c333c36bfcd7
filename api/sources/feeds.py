"""The layouts of lists: which columns name the photo and the id, in the exports of shops too.

| layout | photo | id | recognised by |
|---|---|---|---|
| plain | `key` or `url`, or a column such as `Image URL` | `id` | `key` or `url`; an image column |
| google | `image_link`, `additional_image_link` | `id` | `image_link` |
| shopify | `Image Src`, `Variant Image` | `Variant SKU`, else `Handle` | `Handle` and `Image Src` |
| woocommerce | `Images` | `SKU`, else `ID` | `Images` with `SKU` or `ID` |
| report | `source` | `custom_id` | this service's own report.csv |
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.schemas.report_columns import COLUMNS, URL_COLUMNS
from api.schemas.sources import Feed
from shared.errors import BadManifestError, LeftOutError
from shared.jobs import ItemKind

PHOTO_NUMBER = "photo_number"
"""The column that tells several photos of one product apart, from 1."""

IMAGE_COLUMNS = (
    "image_url",
    "imageurl",
    "image_src",
    "image_link",
    "image",
    "main_image",
    "main_image_url",
    "photo_url",
    "photo",
    "picture_url",
    "picture",
    "img_url",
    "img",
    "image_urls",
    "image_urls_(x,y,z...)",
    "images",
    "cover_media_url",
    "picurl",
    "bild_url",
    "bild",
)
"""Names that people give the photo's column in a list of their own; the first that is there counts.
"""

REPORT_COLUMNS = frozenset((*COLUMNS, *URL_COLUMNS))

OWN_COLUMNS = ("key", "url", "id", "group")
"""Columns with a meaning in a list of this service's own layout, in any spelling."""

QUOTED = re.compile(r"^'(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")
"""The quote with which the report keeps spreadsheets from running a cell."""

_TWICE = re.compile(rf"^({'|'.join(REPORT_COLUMNS)})_2$")
"""An own column that has the name of one of the report's."""

_SEPARATORS = re.compile(r"(?<![\s,;|])[\s,;|]++(?=https?://)", re.IGNORECASE)
"""Between several addresses in one cell; a comma within an address stays. A run of separators is
tried once, from its begin: 40,000 blanks took 10 s, in which the whole process stood still.
"""

_WORDS = re.compile(r"[\s_\-]+")


class BadRow(dict[str, Any]):
    """A row that cannot be read, with what could be read of it."""

    def __init__(self, problem: str, readable: Mapping[str, Any] = {}) -> None:
        super().__init__(readable)
        self.problem = problem


class RowWithoutPhoto(dict[str, Any]):
    """A row that has no photo because its export has such rows: it is left out and counted."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the rows of one layout become rows of a manifest."""

    feed: Feed
    photos: Sequence[str]
    """Columns of photos, by their plain names; each may hold several addresses."""
    ids: Sequence[str]
    """The first that is not empty is the id."""
    left_out: frozenset[str] = frozenset()
    """Long texts, which are not given back."""
    may_lack_photo: bool = False
    """Rows without a photo are part of the export, e.g. further sizes of a shirt."""

    def rows(self, cells: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The manifest rows of one row: one for each photo."""
        by_name = {plain_name_of(name): value for name, value in cells.items()}
        number = next((name for name in self.ids if by_name.get(name)), None)
        unseen = {*self.photos, *self.left_out, *(["id"] if number == "id" else [])}
        own = {
            _own_name(name): value
            for name, value in cells.items()
            if plain_name_of(name) not in unseen
        }
        if number is not None:
            own["id"] = by_name[number]
        places = [
            place
            for column in self.photos
            for place in _SEPARATORS.split(by_name.get(column, "").strip())
            if place
        ]
        places = list(dict.fromkeys(places))
        if not places:
            problem = f"names no photo in `{self.photos[0]}`"
            yield RowWithoutPhoto(own) if self.may_lack_photo else BadRow(problem, own)
        for count, place in enumerate(places, 1):
            numbered = {PHOTO_NUMBER: count} if len(places) > 1 else {}
            yield {_kind_of(place): place, **own, **numbered}


def _kind_of(place: str) -> str:
    """Whether a place is a `key` or a `url`."""
    return "url" if re.match(r"(?:\w+:)?//", place) and not place.startswith("s3://") else "key"


def plain_name_of(column: str) -> str:
    """A column's name as layouts spell it: `Image URL` and `g:image_url` are `image_url`."""
    return _WORDS.sub("_", column.strip().lower().removeprefix("g:"))


_LAYOUTS = {
    Feed.GOOGLE: Layout(
        feed=Feed.GOOGLE,
        photos=("image_link", "additional_image_link", "additional_image_links"),
        ids=("id",),
        left_out=frozenset({"description"}),
    ),
    Feed.SHOPIFY: Layout(
        feed=Feed.SHOPIFY,
        photos=("image_src", "variant_image"),
        ids=("variant_sku", "handle"),
        left_out=frozenset({"body_(html)"}),
        may_lack_photo=True,
    ),
    Feed.WOOCOMMERCE: Layout(
        feed=Feed.WOOCOMMERCE,
        photos=("images",),
        ids=("sku", "id"),
        left_out=frozenset({"description", "short_description"}),
        may_lack_photo=True,
    ),
}

Reader = Callable[[Mapping[str, str]], Iterator[dict[str, Any]]]


def reader_of(header: Sequence[str], feed: Feed | None) -> Reader:
    """What converts the rows under this header. `feed`: the caller's word; None: by the header.
    Raises BadManifestError.
    """
    names = {plain_name_of(name) for name in header}
    if feed is None:
        feed = _recognised(names)
    if feed is Feed.REPORT:
        return _report_rows
    if feed is not Feed.PLAIN:
        layout = _LAYOUTS[feed]
        if not names & set(layout.photos):
            raise BadManifestError(
                f"A {feed} feed has a column `{layout.photos[0]}`; this has none"
            )
        return layout.rows
    if names & {"key", "url"}:
        return _plain_rows
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    if image is None and any("://" in name for name in header):
        raise BadManifestError(
            "The first row holds an address, so the list has no header. Begin it with the names of "
            "its columns, such as id,url"
        )
    if image is None:
        raise BadManifestError(
            "The header has neither a column `key` nor a column `url`, nor one for images"
        )
    return Layout(feed=Feed.PLAIN, photos=(image,), ids=("id",)).rows


def _recognised(names: set[str]) -> Feed:
    if {"custom_id", "source", "status", "output_key"} <= names:
        return Feed.REPORT
    if names & {"key", "url"}:
        return Feed.PLAIN
    if "image_link" in names:
        return Feed.GOOGLE
    if {"handle", "image_src"} <= names:
        return Feed.SHOPIFY
    if "images" in names and names & {"sku", "id"}:
        return Feed.WOOCOMMERCE
    return Feed.PLAIN


def _own_name(name: str) -> str:
    """A column's name as the report returns it. `key`, `url`, `upload` and `id` are written in
    capitals, because a manifest gives them a meaning.
    """
    if _is_option(name):
        return name.lower()
    return name.upper() if name in ("key", "url", "upload", "id") else name


def _plain_rows(cells: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Rows of this service's own layout; the caller's own columns keep their spelling."""
    yield {
        (
            name.lower()
            if name.lower() in ("key", "url", "id", "group") or _is_option(name)
            else name
        ): value
        for name, value in cells.items()
    }


def _is_option(name: str) -> bool:
    return name.lower() == "options" or name.lower().startswith("options.")


def _report_rows(cells: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Rows of a report, as rows of a new list: id, options and own columns stay."""
    if cells.get("kind") == ItemKind.TURNTABLE:  # the new job makes its own
        yield RowWithoutPhoto()
        return
    place = cells.get("source", "")
    if not place or place.startswith("row:"):
        was_left_out = cells.get("error_code") == LeftOutError.code
        yield RowWithoutPhoto() if was_left_out else BadRow("names no photo in `source`")
        return
    own = {
        _TWICE.sub(r"\1", QUOTED.sub("", name)): QUOTED.sub("", value)
        for name, value in cells.items()
        if name not in REPORT_COLUMNS
    }
    told = {
        "id": QUOTED.sub("", cells.get("custom_id", "")),
        "group": QUOTED.sub("", cells.get("group", "")),
        "options": cells.get("options", ""),
    }
    yield {_kind_of(place): QUOTED.sub("", place), **own, **{k: v for k, v in told.items() if v}}
