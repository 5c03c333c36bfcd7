"""Reads photos from the object storage or the web, and writes results to the storage."""

from contextlib import closing
from typing import IO

from shared.errors import ClipTooLargeError
from shared.object_url import ObjectUrl
from shared.published_results import publish
from shared.storage import Storage
from shared.web import Web
from worker.pipeline.in_flight import WEB


class PhotoSources:
    """The object store of the pipeline: photos from S3 or the web, results to S3."""

    def __init__(self, storage: Storage, web: Web) -> None:
        self._storage = storage
        self._web = web

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The photo's bytes. Raises ImageError or TransientError."""
        if bucket == WEB:
            return self._web.get(key, max_bytes)
        return self._storage.get(bucket, key, max_bytes)

    def fetch(self, bucket: str, key: str, max_bytes: int, into: IO[bytes]) -> None:
        """Write a clip into a file. Raises ImageError or TransientError."""
        if bucket == WEB:
            self._web.fetch_clip(key, max_bytes, into)
            return
        size, pieces = self._storage.open(bucket, key)
        with closing(pieces):
            if size > max_bytes:
                raise ClipTooLargeError(f"The file has {size:,} bytes; the limit is {max_bytes:,}")
            for piece in pieces:
                into.write(piece)

    def upload(self, key: str, stream: IO[bytes], content_type: str) -> None:
        """Write an object to the service's bucket from a file. Raises StorageError."""
        self._storage.upload(key, stream, content_type)

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object to the service's bucket. Raises StorageError."""
        self._storage.put(key, data, content_type)

    def delete(self, key: str) -> None:
        """Delete an object of the service's bucket, if there is one. Raises StorageError."""
        self._storage.delete_many([key])

    def publish(
        self, place: ObjectUrl, data: bytes | IO[bytes], content_type: str, *, writer: str
    ) -> None:
        """Write a result to a destination. Raises DestinationRefusedError, StorageError."""
        publish(self._storage, place, data, content_type, writer=writer)
