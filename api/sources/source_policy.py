"""Which sources a caller may use: readable S3 objects, its own uploads, web addresses."""

import re
import unicodedata
import uuid
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from shared.database_text import without_unstorable_text
from shared.errors import (
    ForbiddenSourceError,
    ForbiddenUrlError,
    ForbiddenWebhookError,
    UnknownModelError,
)
from shared.object_url import ObjectUrl, as_read_laxly
from shared.options import Options
from shared.settings import NO_MODEL, Settings
from shared.web import refuse_private

OWN_PREFIX = "jobs/"
"""Prefix of multipart inputs and of all results; never a caller's source."""

UPLOADS_PREFIX = "uploads/"

_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode characters that reverse the writing direction: they make `gpj.exe` look like `exe.jpg`.
"""

INVISIBLE = "\ufeff\u200b\u200e\u200f"
"""Signs that come along when text is copied from web pages."""

_LINE_ENDS = re.compile(r"[\r\n\t\v\f\x1c-\x1f\x85\u2028\u2029]")
"""Blanks that no URL has by a mistake of its writer alone."""

_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*")
"""Matches most names, which need no closer check."""


def attached_key(job_id: uuid.UUID, kind: str) -> str:
    """The key of a `manifest`, `zip` or `background` that came in a multipart body."""
    return f"{OWN_PREFIX}{job_id}/{kind}"


class SourcePolicy:
    """Checks which sources a caller may use."""

    def __init__(
        self, settings: Settings, api_key_id: uuid.UUID, sources: Sequence[str] | None = None
    ) -> None:
        """`sources`: the `s3://bucket/prefix/` that the API key is limited to; None: all that the
        settings allow.
        """
        self.sources = sources
        self._bound = None if sources is None else tuple(sources)
        self.api_key_id = api_key_id
        self.uploads = f"{UPLOADS_PREFIX}{api_key_id}/"
        """Prefix of the caller's own uploads."""
        self._bucket = settings.s3_bucket
        self._buckets = settings.readable_buckets
        self._models = settings.offered_models
        self._redo_models = settings.second_models
        self._second_models = [*settings.second_models, NO_MODEL]

    def object(self, text: str, *, prefix: bool = False) -> ObjectUrl:
        """The object or prefix of an S3 URL. Raises ForbiddenSourceError if the caller may not read
        it.
        """
        return self._checked(ObjectUrl.parse(text, self._bucket), prefix=prefix)

    def prefix(self, text: str) -> ObjectUrl:
        """A prefix as people write it: `bucket/prefix` means the bucket if there is one of this
        name. Raises ForbiddenSourceError.
        """
        if text.partition("/")[0] in self._buckets:
            text = f"s3://{text}"
        return self.object(text, prefix=True)

    def upload(self, text: str) -> ObjectUrl:
        """An upload of this caller. Raises ForbiddenSourceError."""
        url = ObjectUrl.parse(text, self._bucket)
        if url.bucket != self._bucket or not url.key.startswith(self.uploads):
            raise ForbiddenSourceError(f"{text!r} is not an upload of this API key")
        return url

    def object_or_upload(self, text: str) -> ObjectUrl:
        """An upload or another object. Raises ForbiddenSourceError."""
        url = ObjectUrl.parse(text, self._bucket)
        if url.bucket == self._bucket and url.key.startswith(self.uploads):
            return url
        return self._checked(url, prefix=False)

    def _checked(self, url: ObjectUrl, *, prefix: bool) -> ObjectUrl:
        if url.bucket not in self._buckets:
            allowed = ", ".join(self._bound or sorted(self._buckets))
            raise ForbiddenSourceError(
                f"This API key may not read the bucket {url.bucket!r}. It may read {allowed}"
            )
        lax = as_read_laxly(url.key)
        inside = lax.startswith((OWN_PREFIX, UPLOADS_PREFIX))
        around = prefix and (OWN_PREFIX.startswith(lax) or UPLOADS_PREFIX.startswith(lax))
        if url.bucket == self._bucket and (inside or around):
            raise ForbiddenSourceError(f"{url} covers files of the service itself")
        if self._bound is not None and not str(url).startswith(self._bound):
            raise ForbiddenSourceError(f"This API key may not read {url}")
        return url

    def options(
        self, options: Options, job_id: uuid.UUID | None = None, *, redo: bool = False
    ) -> None:
        """Check the models and the background pictures in the options. Pictures below the job's own
        prefix came with its request and are allowed. `redo`: a photo is done again, so the model
        that gives second opinions may be named too: workers hold it.

        Raises UnknownModelError, ForbiddenSourceError.
        """
        models = self._redo_models if redo else self._models
        if options.model is not None and options.model not in models:
            offered = ", ".join(models)
            raise UnknownModelError(f"There is no model {options.model}. Available: {offered}")
        second = options.second_model
        if second is not None and second not in self._second_models:
            offered = ", ".join(self._second_models)
            raise UnknownModelError(f"There is no second model {second}. Available: {offered}")
        for text in options.background_images():
            place = ObjectUrl.parse(text, self._bucket)
            own = place.bucket == self._bucket and place.key.startswith(f"{OWN_PREFIX}{job_id}/")
            if job_id is None or not own:
                self.object_or_upload(text)


def photo_address(text: str) -> str:
    """The URL of a photo as lists and people write it: blanks around it go, blanks in it are
    `%20`, `//host/…` is https. Its address is checked when it is downloaded.

    Raises ForbiddenUrlError.
    """
    bare = text.strip().strip(INVISIBLE).strip()
    spelled = re.sub(r"\s", "%20", bare) if not _LINE_ENDS.search(bare) else bare
    return web_address(f"https:{spelled}" if spelled.startswith("//") else spelled)


def web_address(text: str) -> str:
    """Check that a URL can be one of the web. Raises ForbiddenUrlError."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    odd = any(ord(char) <= 32 or ord(char) == 127 for char in text)
    if not valid or odd or text != without_unstorable_text(text):
        raise ForbiddenUrlError("The URL is not a valid http:// or https:// address")
    if parts.username or parts.password:
        raise ForbiddenUrlError("The URL contains a user name or a password")
    return text


def webhook_address(url: str, settings: Settings) -> str:
    """Check that a URL can be one of a webhook. Its address is checked again at each delivery.
    Raises ForbiddenWebhookError.
    """
    try:
        refuse_private(web_address(url), allow_private=settings.allow_private_addresses)
    except ForbiddenUrlError as error:
        raise ForbiddenWebhookError(error.detail) from error
    return url


def plain_name(name: str) -> str:
    """A caller's path as a relative path that never leads out of the folder that it is put in."""
    if _PLAIN.fullmatch(name):
        return name
    cleaned = "".join(
        char
        for char in without_unstorable_text(name).replace("\\", "/")
        if unicodedata.category(char) != "Cc" and char not in _TURNS
    )
    segments = [part.strip() for part in cleaned.split("/")]
    kept = [part for part in segments if part not in ("", ".", "..") and not part.endswith(":")]
    return "/".join(kept) or "unnamed"


def name_of_url(url: str) -> str:
    """The name of a photo by URL within its job: the path of the URL."""
    return plain_name(unquote(urlsplit(url).path))


def name_under(prefix: str, key: str) -> str:
    """The name of a key within its job: its path below the last folder of the prefix. Owners of
    buckets choose keys freely, so `in//etc/x.jpg` must not become `/etc/x.jpg`.
    """
    folder = prefix[: prefix.rfind("/") + 1]
    return plain_name(key[len(folder) :])
