"""S3 object storage: get, put, list, presign. Only the modules `shared.storage*` import boto3."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from shared.content_disposition import content_disposition
from shared.errors import (
    BucketMissingError,
    FileTooLargeError,
    RemovalRefusedError,
    SourceNotFoundError,
)
from shared.object_url import ObjectUrl
from shared.settings import Settings
from shared.storage_connection import encryption_of, new_client, new_presigner, new_session
from shared.storage_faults import FAULTS, code_of, own, translated
from shared.storage_stream import ObjectStream

LIST_PAGE_KEYS = 1_000
"""Most keys in one S3 listing."""

WHOLE_BYTES = 64 * 1024**2
"""Smaller files are sent in one request, straight from disk. Larger ones are sent in parts, each of
which is read into memory.
"""

WRITER = "matting-writer"
"""Metadata of an object in a destination: which claim wrote it."""

_CHANGED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})

_GONE = frozenset({"NoSuchKey", "404"})
"""What S3 answers if the object that a write is compared with was deleted meanwhile."""

_NO_REASON = frozenset({"400", "401", "403"})
"""A HEAD response has no body, so these status codes appear in place of an error code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObject:
    """What a listing says about an object."""

    key: str
    etag: str
    """Another one if the bytes changed."""
    size_bytes: int
    modified_at: datetime


class Storage:
    """The object storage. Thread-safe: one client with a connection pool."""

    def __init__(self, settings: Settings, *, connections: int = 32) -> None:
        """Does not connect yet. `connections`: number of threads that may use it at the
        same time.
        """
        self.bucket = settings.s3_bucket
        self._paid_buckets = settings.paid_buckets
        self._encryption = encryption_of(settings)
        self._session = new_session(settings)
        self._client = new_client(self._session, settings, settings.s3_endpoint_url, connections)
        self._presigner = new_presigner(self._session, settings)

    @property
    def public_url(self) -> str:
        """Where callers reach the storage: the beginning of every presigned URL."""
        return str(self._presigner.meta.endpoint_url)

    @property
    def credentials_source(self) -> str:
        """Where boto3 found the access key: `explicit` (the settings), `iam-role`,
        `container-role`, `assume-role-with-web-identity`, a file, …; `none`: nowhere. Presigned
        URLs end with a temporary key.
        """
        found = self._session.get_credentials()
        if found is None:
            return "none"
        return f"{found.method}, temporary" if found.token else str(found.method)

    def _paid(self, bucket: str) -> dict[str, str]:
        """The parameter that says who pays for a request on a bucket."""
        return {"RequestPayer": "requester"} if bucket in self._paid_buckets else {}

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The object's bytes.

        Raises FileTooLargeError (before reading it), another ImageError if the storage's answer is
        final (shared.storage_faults), or StorageError.
        """
        try:
            response = self._client.get_object(Bucket=bucket, Key=key, **self._paid(bucket))
            with response["Body"] as body:
                size = response["ContentLength"]
                if size > max_bytes:
                    body.close()
                    raise FileTooLargeError(
                        f"The file has {size:,} bytes; the limit is {max_bytes:,}"
                    )
                data: bytes = body.read()
        except FAULTS as error:
            raise translated(error, bucket, key) from error
        return data

    def open(self, bucket: str, key: str) -> tuple[int, ObjectStream]:
        """The object's size in bytes, and its bytes in pieces. Raises like `stream`, also between
        pieces. Close the pieces, unless they have ended.
        """
        try:
            response = self._client.get_object(Bucket=bucket, Key=key, **self._paid(bucket))
        except FAULTS as error:
            raise translated(error, bucket, key) from error
        return response["ContentLength"], ObjectStream(response["Body"], bucket, key)

    def stream(self, bucket: str, key: str) -> Generator[bytes]:
        """The object's bytes in chunks. Raises ImageError or StorageError, also between chunks."""
        with closing(self.open(bucket, key)[1]) as pieces:
            yield from pieces

    def head(self, bucket: str, key: str, size: int) -> tuple[bytes, int]:
        """The first `size` bytes of an object, and its total size in bytes. Raises as `get`."""
        try:
            response = self._client.get_object(
                Bucket=bucket, Key=key, Range=f"bytes=0-{size - 1}", **self._paid(bucket)
            )
            with response["Body"] as body:
                data: bytes = body.read()
            whole = str(response.get("ContentRange", "")).rpartition("/")[2]
        except FAULTS as error:
            raise translated(error, bucket, key) from error
        return data, int(whole) if whole.isdigit() else len(data)

    def part(self, bucket: str, key: str, start: int, size: int) -> bytes:
        """Up to `size` bytes of an object, from byte `start` on. Raises as `get`."""
        try:
            span = f"bytes={start}-{start + size - 1}"
            response = self._client.get_object(
                Bucket=bucket, Key=key, Range=span, **self._paid(bucket)
            )
            with response["Body"] as body:
                data: bytes = body.read()
        except FAULTS as error:
            raise translated(error, bucket, key) from error
        return data

    def size(self, bucket: str, key: str) -> int:
        """The object's length in bytes. Raises as `get`."""
        try:
            answer = self._client.head_object(Bucket=bucket, Key=key, **self._paid(bucket))
            return int(answer["ContentLength"])
        except FAULTS as error:
            raise translated(error, bucket, key) from error

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete objects of the service's bucket; missing ones are ignored.

        Raises StorageError, and RemovalRefusedError if it does not remove one of them.
        """
        for start in range(0, len(keys), LIST_PAGE_KEYS):
            chunk = [{"Key": key} for key in keys[start : start + LIST_PAGE_KEYS]]
            try:
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": chunk, "Quiet": True}
                )
            except FAULTS as error:
                raise own(error, self.bucket, chunk[0]["Key"]) from error
            if answer.get("Errors"):
                first = answer["Errors"][0]
                raise RemovalRefusedError(
                    f"The storage did not remove {first.get('Key')}: {first.get('Code')}"
                )

    def put(self, key: str, data: bytes | bytearray, content_type: str) -> None:
        """Write an object to the service's bucket, completely or not at all. Raises
        StorageError.
        """
        try:
            self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=data,
                ContentType=content_type,
                **self._encryption,
            )
        except FAULTS as error:
            raise own(error, self.bucket, key) from error

    def written_by(self, place: ObjectUrl) -> tuple[str, str] | None:
        """ETag of an object, and the mark of its writer (empty: it has none); None: there is none,
        or the storage does not say. Raises ImageError, StorageError.
        """
        try:
            found = self._client.head_object(Bucket=place.bucket, Key=place.key)
        except FAULTS as error:
            # Without the right to list, S3 answers 403 for an object that does not exist.
            if isinstance(error, ClientError) and code_of(error) in ("403", "404", "NoSuchKey"):
                return None
            raise translated(error, place.bucket, place.key) from error
        marks = {name.lower(): text for name, text in found["Metadata"].items()}
        return found["ETag"], marks.get(WRITER, "")

    def put_unchanged(
        self,
        place: ObjectUrl,
        data: "bytes | bytearray | IO[bytes]",
        content_type: str,
        *,
        writer: str,
        etag: str | None,
    ) -> bool:
        """Write an object to any bucket if it is still the one with this ETag; None: if there is
        none. Returns False if it is not. A storage that can't compare writes it in any case.

        Raises ImageError, StorageError.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        request = {
            "Bucket": place.bucket,
            "Key": place.key,
            "Body": data,
            "ContentType": content_type,
            "Metadata": {WRITER: writer},
            # A bucket of a customer's encrypts as its owner has set it up.
            **(self._encryption if place.bucket == self.bucket else {}),
        }
        try:
            try:
                self._client.put_object(**request, **condition)
            except ClientError as error:
                if code_of(error) in _CHANGED or (etag and code_of(error) in _GONE):
                    return False
                if code_of(error) != "NotImplemented":
                    raise
                if not isinstance(data, bytes | bytearray):
                    data.seek(0)
                self._client.put_object(**request)
        except FAULTS as error:
            raise translated(error, place.bucket, place.key) from error
        return True

    def has_bucket(self, name: str) -> bool:
        """Whether a bucket exists; a storage that does not say counts as yes. Raises StorageError,
        ImageError.
        """
        try:
            self._client.head_bucket(Bucket=name)
        except FAULTS as error:
            code = code_of(error) if isinstance(error, ClientError) else ""
            if code not in ("400", "401", "403", "404", "NoSuchBucket"):
                raise translated(error, name, "") from error
            return code not in ("404", "NoSuchBucket")
        return True

    def upload(self, key: str, stream: IO[bytes], content_type: str | None = None) -> None:
        """Write an object to the service's bucket from a stream of any length. Raises
        StorageError.
        """
        extra: dict[str, Any] = {**self._encryption}
        if content_type is not None:
            extra["ContentType"] = content_type
        try:
            # Threads help with large files only, and the caller already uploads several files in
            # parallel.
            config = TransferConfig(use_threads=False, multipart_threshold=WHOLE_BYTES)
            self._client.upload_fileobj(stream, self.bucket, key, ExtraArgs=extra, Config=config)
        except FAULTS as error:
            raise own(error, self.bucket, key) from error

    def copy(self, source_key: str, key: str) -> None:
        """Copy an object within the service's bucket, inside the storage. Raises
        SourceNotFoundError, StorageError.
        """
        try:
            self._client.copy_object(
                Bucket=self.bucket,
                Key=key,
                CopySource={"Bucket": self.bucket, "Key": source_key},
                **self._encryption,
            )
        except FAULTS as error:
            known = translated(error, self.bucket, source_key)
            if isinstance(known, SourceNotFoundError):
                raise known from error
            raise own(error, self.bucket, source_key) from error

    def list_page(self, source: ObjectUrl, *, after: str | None) -> list[str]:
        """Up to 1,000 keys under a prefix, in S3's order, after the key `after`.

        Raises ImageError or StorageError.
        """
        return [entry.key for entry in self.list_objects(source, after=after)[0]]

    def list_objects(
        self, source: ObjectUrl, *, after: str | None, limit: int = LIST_PAGE_KEYS
    ) -> tuple[list[ListedObject], bool]:
        """The same with what the listing says about each object, and whether there are more."""
        request: dict[str, Any] = self._paid(source.bucket)
        if after:
            request["StartAfter"] = after
        try:
            page = self._client.list_objects_v2(
                Bucket=source.bucket, Prefix=source.key, MaxKeys=limit, **request
            )
        except FAULTS as error:
            raise translated(error, source.bucket, source.key) from error
        found = [
            ListedObject(
                key=entry["Key"],
                etag=entry.get("ETag") or f"{entry['LastModified'].isoformat()}-{entry['Size']}",
                size_bytes=entry["Size"],
                modified_at=entry["LastModified"],
            )
            for entry in page.get("Contents", [])
        ]
        return found, bool(page.get("IsTruncated"))

    def list_older(self, prefix: str, before: datetime) -> Iterator[list[str]]:
        """Pages of keys under a prefix of the service's bucket that were written before a time."""
        paginator = self._client.get_paginator("list_objects_v2")
        try:
            for page in paginator.paginate(Bucket=self.bucket, Prefix=prefix):
                yield [
                    entry["Key"]
                    for entry in page.get("Contents", [])
                    if entry["LastModified"] < before
                ]
        except FAULTS as error:
            raise own(error, self.bucket, prefix) from error

    def list_folders(self, prefix: str) -> Iterator[list[str]]:
        """Pages of the folders of the service's bucket directly under a prefix. The prefix and the
        folders end in a slash.
        """
        paginator = self._client.get_paginator("list_objects_v2")
        try:
            for page in paginator.paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/"):
                yield [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        except FAULTS as error:
            raise own(error, self.bucket, prefix) from error

    def list_keys(self, prefix: str) -> Iterator[str]:
        """All keys under a prefix of the service's bucket."""
        after: str | None = None
        while keys := self.list_page(ObjectUrl(self.bucket, prefix), after=after):
            yield from keys
            after = keys[-1]

    def presign_get(self, key: str, *, ttl_s: int, filename: str, bucket: str | None = None) -> str:
        """A URL with which anyone can download the object for `ttl_s` seconds, under the given file
        name.
        """
        return self._presign("get_object", key, ttl_s, filename, bucket)

    def presign_head(
        self, key: str, *, ttl_s: int, filename: str, bucket: str | None = None
    ) -> str:
        """The same for a HEAD request, which tells size and type of the object."""
        return self._presign("head_object", key, ttl_s, filename, bucket)

    def _presign(
        self, operation: str, key: str, ttl_s: int, filename: str, bucket: str | None
    ) -> str:
        url: str = self._presigner.generate_presigned_url(
            operation,
            Params={
                "Bucket": bucket or self.bucket,
                "Key": key,
                "ResponseContentDisposition": content_disposition("inline", filename),
                **self._paid(bucket or self.bucket),
            },
            ExpiresIn=ttl_s,
        )
        return url

    def presign_put(self, key: str, *, ttl_s: int) -> str:
        """A URL with which anyone can upload the object once, for `ttl_s` seconds."""
        url: str = self._presigner.generate_presigned_url(
            "put_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=ttl_s
        )
        return url

    def ensure_bucket(self) -> None:
        """Create the service's bucket if it is missing. Raises StorageError, ImageError."""
        try:
            self.ping()
        except BucketMissingError:
            try:
                self._client.create_bucket(Bucket=self.bucket)
            except FAULTS as error:
                raise translated(error, self.bucket, "") from error

    def ping(self) -> None:
        """Raise StorageError or ImageError if the service's bucket is not accessible."""
        try:
            try:
                self._client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if code_of(error) not in _NO_REASON:
                    raise
                # a listing has a body, which contains the reason
                self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        except FAULTS as error:
            known = translated(error, self.bucket, "")
            if isinstance(known, SourceNotFoundError):
                known = BucketMissingError(f"There is no bucket {self.bucket}")
            raise known from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._presigner.close()
