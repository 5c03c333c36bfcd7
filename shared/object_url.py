"""`s3://bucket/key`, taken apart, and how the laxest of readers would take a key."""

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote

from shared.errors import ForbiddenSourceError

_DOUBTFUL = re.compile(r"[^ -~]|[%\\]|^/|//|(?:^|/)\.\.?(?:/|$)")
"""In a key: what must be looked at closer."""


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """`s3://bucket/key`, taken apart. A prefix is one whose key may be empty or end in `/`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, text: str, default_bucket: str) -> "ObjectUrl":
        """Read `s3://bucket/key`, or a bare key of the default bucket.

        Raises ForbiddenSourceError for keys whose place depends on who reads them: with `.` or `..`
        segments, a leading slash or control characters, also percent-encoded (however often),
        behind backslashes, or in characters that Unicode holds for the same.
        """
        if text.startswith("s3://"):
            bucket, _, key = text.removeprefix("s3://").partition("/")
        else:
            bucket, key = default_bucket, text
        if bucket and not _DOUBTFUL.search(key):  # nearly all
            return cls(bucket, key)
        lax = as_read_laxly(key)
        odd = {".", ".."} & set(lax.split("/")) or lax.startswith("/")
        half = any("\ud800" <= char <= "\udfff" for char in lax)  # no character, so no UTF-8
        if not bucket or odd or half or any(ord(char) < 32 for char in lax):
            raise ForbiddenSourceError(f"{text!r} is not a plain S3 key")
        return cls(bucket, key)


def as_read_laxly(key: str) -> str:
    """A key as the laxest of readers takes it: percent-decoded to the end, Unicode's compatible
    characters (`．．`, `／`) made plain, backslashes as slashes, runs of slashes as one.
    """
    if not _DOUBTFUL.search(key):
        return key
    while (decoded := unquote(key)) != key:
        key = decoded
    plain = unicodedata.normalize("NFKC", key).replace("\\", "/")
    return re.sub("//+", "/", plain)
