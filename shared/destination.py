"""Where the results of a job are written besides the service's own bucket: a template of S3 keys.

`s3://shop/cutouts/{sku}.{ext}` gives each photo's result a key of the caller's own.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.errors import (
    BadResultNameError,
    DestinationCollisionError,
    ForbiddenSourceError,
    UnknownPlaceholderError,
)
from shared.object_url import ObjectUrl, as_read_laxly
from shared.options import ExtraOutput, Options, Output
from shared.result_names import (
    KNOWN,
    OF_RESULT,
    OF_ROW,
    NamedPhoto,
    check_template,
    file_name,
    filled,
    placeholders,
)
from shared.suggestions import did_you_mean

MAX_KEY_BYTES = 1_024
"""S3's limit for a key, in UTF-8 (Amazon S3 user guide, "Naming Amazon S3 objects")."""

MAX_TEMPLATE_CHARS = 1_200

SCHEME = "s3://"


def _checked(template: str) -> str:
    """The template with a file name. Raises ValueError."""
    bucket, _, key = template.removeprefix(SCHEME).partition("/")
    if not template.startswith(SCHEME) or not bucket or "{" in bucket or not key:
        raise ValueError("write it like s3://bucket/folder/{path}.{ext}")
    if key.endswith("/"):
        key += "{path}.{ext}"
    check_template(key, "the key")
    if "//" in key:
        raise ValueError("the key contains an empty folder name (//)")
    late = sorted(set(placeholders(key)) & set(OF_RESULT))
    if late:
        raise ValueError(f"`{{{late[0]}}}` is known only when the result is made")
    try:
        ObjectUrl.parse(f"{SCHEME}{bucket}/{key}", "")
    except ForbiddenSourceError as error:
        raise ValueError(error.detail) from error
    return f"{SCHEME}{bucket}/{key}"


DestinationTemplate = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TEMPLATE_CHARS,
        description="Also write each result to a key of your own: `s3://bucket/` and a path with "
        "`{path}`, `{name}`, `{folder}`, `{n}`, `{id}`, `{ext}` and the columns of a manifest. A "
        "folder alone means `{path}.{ext}` below it. The key must be allowed to write there.",
        examples=["s3://shop/cutouts/{sku}.{ext}", "s3://shop/cutouts/"],
    ),
    AfterValidator(_checked),
]


def fixed_folder(template: str) -> ObjectUrl:
    """The folder below which all keys of a destination lie. Its key ends in `/` or is empty."""
    bucket, _, key = template.removeprefix(SCHEME).partition("/")
    fixed = key.partition("{")[0]
    return ObjectUrl(bucket, fixed[: fixed.rfind("/") + 1])


def destinations(
    template: str, photo: NamedPhoto, options: Options, *, clip: bool = False
) -> list[ObjectUrl]:
    """The object of each of `options.renditions`, the main one first; those of a photo or of a
    `clip`. An extra output lies below
    the fixed folder under its `name`, the matte of `output: both` beside the main file.

    Raises BadResultNameError.
    """
    folder = fixed_folder(template)
    key = template.removeprefix(f"{SCHEME}{folder.bucket}/")
    main = _filled_key(key, photo, options.extension(clip=clip))
    keys = [main]
    extras: list[ExtraOutput] = list(options.extras)
    if options.output is Output.BOTH:
        beside = extras.pop(0)
        stem, dot, _ = main.rpartition(".")
        keys.append(f"{stem if dot else main}-alpha.{beside.extension(clip=clip)}")
    for extra in extras:
        if set(placeholders(extra.name)) & set(OF_RESULT):
            raise BadResultNameError(
                f"The output `{extra.name}` has its size in its name, which is known only later"
            )
        keys.append(folder.key + _filled_key(extra.name, photo, extra.extension(clip=clip)))
    return [_plain(ObjectUrl(folder.bucket, one)) for one in keys]


def _filled_key(template: str, photo: NamedPhoto, extension: str) -> str:
    if "/" not in photo.name:  # it has no folder, so there is none to name
        template = template.replace("{folder}/", "")
    return filled(template, photo, extension)


def _plain(place: ObjectUrl) -> ObjectUrl:
    """The object, if every reader understands its key alike. Raises BadResultNameError."""
    key = place.key
    segments = as_read_laxly(key).split("/")
    if {"", ".", ".."} & {*segments, *key.split("/")}:
        raise BadResultNameError(f"{str(place)[:200]!r} has an empty part, or `.` or `..`")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in key):
        raise BadResultNameError("The key has a control character")
    if (size := len(key.encode())) > MAX_KEY_BYTES:
        raise BadResultNameError(f"The key has {size:,} bytes; S3 takes {MAX_KEY_BYTES:,}")
    return place


def check_names(options: Options, photo: NamedPhoto) -> None:
    """Raise BadResultNameError if a photo lacks what the names of its outputs need."""
    for one in options.renditions:
        if one.name is not None and "{" in one.name:
            file_name(one.name, photo, one.format.extension, 1, 1)


def needs_row(options: Mapping[str, Any]) -> bool:
    """Whether names in stored options have placeholders that a list of photos fills."""
    names = [options.get("name"), *(one["name"] for one in options.get("extra_outputs") or ())]
    return any(_is_given(field) for name in names if name for field in placeholders(name))


def _is_given(field: str) -> bool:
    return field == OF_ROW or field not in KNOWN


def given_placeholders(template: str | None, options: Options) -> set[str]:
    """The placeholders of a destination and of outputs' names that stand for something of the
    caller's own: the id of a photo, or a column.
    """
    templates = [template, *(one.name for one in options.renditions)]
    named = {name for text in templates if text for name in placeholders(text)}
    return set(filter(_is_given, named))


def refuse_unknown(needed: Iterable[str], columns: Iterable[str]) -> None:
    """Raise UnknownPlaceholderError for a placeholder that no column fills."""
    known = {*KNOWN - {OF_ROW}, *columns}
    for name in sorted(set(needed) - known):
        spelled = {one.lower(): one for one in sorted(known)}
        advice = did_you_mean(name.lower(), spelled)
        for lower, one in spelled.items():
            advice = advice.replace(f"`{lower}`", f"`{{{one}}}`")
        if name == OF_ROW:
            advice = "Only lists whose photos have an id fill it."
        raise UnknownPlaceholderError(f"Nothing fills the placeholder `{{{name}}}`. {advice}")


def digest_of(place: ObjectUrl) -> str:
    """A hash that is equal for keys that people and file systems take for one: whatever their case
    and their Unicode normal form (Unicode Standard, 3.13, canonical caseless matching).
    """
    text = unicodedata.normalize("NFD", str(place)).casefold()
    folded = unicodedata.normalize("NFD", text)
    return hashlib.blake2b(folded.encode(), digest_size=16).hexdigest()


def collision(place: ObjectUrl, one: NamedPhoto, other: NamedPhoto) -> DestinationCollisionError:
    """The error of two results that would have one key."""
    if one == other:
        return DestinationCollisionError(
            f"Two outputs of {_described(one)} would both be written to {place}"
        )
    return DestinationCollisionError(
        f"The results of {_described(one)} and {_described(other)} would both be written to {place}"
    )


def _described(photo: NamedPhoto) -> str:
    return f"photo {photo.number:,} ({photo.name[:200]})"


def refuse_own_photo(place: ObjectUrl, source: str) -> None:
    """Raise BadResultNameError if a result would replace the photo that it is made from."""
    if str(place) == source:
        raise BadResultNameError(f"The result would replace its own photo, {source[:200]}")
