"""Parsing of `s3://bucket/key` URLs, and detection of keys that readers interpret differently."""

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote

from shared.errors import ForbiddenSourceError

_DOUBTFUL = re.compile(r"[^ -~]|[%\\]|^/|//|(?:^|/)\.\.?(?:/|$)")
"""Characters of a key that need a closer check."""


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """A bucket and a key. In a prefix the key may be empty or end in `/`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, text: str, default_bucket: str) -> "ObjectUrl":
        """Parse `s3://bucket/key`, or a bare key of the default bucket.

        Raises ForbiddenSourceError for keys that readers interpret differently: with `.` or `..`
        segments, a leading slash or control characters, also when percent-encoded (any number of
        times), written with backslashes, or with Unicode characters that normalise to these.
        """
        if text.startswith("s3://"):
            bucket, _, key = text.removeprefix("s3://").partition("/")
        else:
            bucket, key = default_bucket, text
        if bucket and not _DOUBTFUL.search(key):  # the usual case
            return cls(bucket, key)
        lax = as_read_laxly(key)
        odd = {".", ".."} & set(lax.split("/")) or lax.startswith("/")
        half = any("\ud800" <= char <= "\udfff" for char in lax)  # lone surrogates have no UTF-8
        if not bucket or odd or half or any(ord(char) < 32 for char in lax):
            raise ForbiddenSourceError(f"{text!r} is not a plain S3 key")
        return cls(bucket, key)


def folder_limit(text: str) -> str:
    """A folder that an API key may be limited to, as `s3://bucket/` or `s3://bucket/prefix/`.

    Raises ForbiddenSourceError.
    """
    url = str(ObjectUrl.parse(text, ""))
    return url if url.endswith("/") else f"{url}/"


def as_read_laxly(key: str) -> str:
    """The key as the most lenient reader would interpret it: percent-decoded completely, Unicode
    normalised (`．．`, `／`), backslashes and runs of slashes replaced by one slash.
    """
    if not _DOUBTFUL.search(key):
        return key
    while (decoded := unquote(key)) != key:
        key = decoded
    plain = unicodedata.normalize("NFKC", key).replace("\\", "/")
    return re.sub("//+", "/", plain)
