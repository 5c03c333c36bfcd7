"""Reads photos from the object storage or the web, and writes results to the storage."""

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

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object to the service's bucket. Raises StorageError."""
        self._storage.put(key, data, content_type)

    def publish(self, place: ObjectUrl, data: bytes, content_type: str, *, writer: str) -> None:
        """Write a result to a destination. Raises DestinationRefusedError, StorageError."""
        publish(self._storage, place, data, content_type, writer=writer)
