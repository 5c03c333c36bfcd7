"""Reads everything that may grow in a running stack: memory, descriptors, threads, keys,
leftovers.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import boto3
import redis
from botocore.config import Config

from shared.queue import make_app, queue_depth
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class ProcessGauge:
    """Figures of one idle process."""

    rss_mb: float
    """Resident memory without mapped files (anonymous pages)."""
    fds: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read the figures from /proc. Raises OSError if the process has ended."""
        folder = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        return cls(
            rss_mb=int(status["RssAnon"].split()[0]) * 1024 / 1e6,
            fds=len(os.listdir(folder / "fd")),
            threads=int(status["Threads"]),
        )


@dataclass(frozen=True, slots=True)
class Gauges:
    """Figures of the idle stack after this many images."""

    images: int
    processes: Mapping[str, ProcessGauge]
    redis_keys: tuple[str, ...]
    """Without keys that expire on their own, such as an API key's rate."""
    redis_mb: float
    redis_log_mb: float
    """Size of the append-only file on disk."""
    database_mb: float
    logs_mb: float
    multipart_uploads: int
    temporary_files: int


class Meter:
    """Reads the figures of a running stack. `close` it before the stack."""

    def __init__(self, data: Path, settings: Settings, processes: Mapping[str, int]) -> None:
        """`data` is the stack's folder, `processes` the process id of each part."""
        self._data = data
        self._processes = processes
        self._queue = make_app(settings)
        self._redis = redis.Redis.from_url(settings.redis_url)
        self._bucket = settings.s3_bucket
        key, secret = settings.aws_access_key_id, settings.aws_secret_access_key
        assert key is not None
        assert secret is not None
        self._s3: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.s3_region,
            aws_access_key_id=key.get_secret_value(),
            aws_secret_access_key=secret.get_secret_value(),
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def read(self, images: int) -> Gauges:
        """Read all figures."""
        keys = [key for key in self._redis.scan_iter() if self._redis.ttl(key) == -1]
        info: Any = self._redis.info("memory")
        return Gauges(
            images=images,
            processes={name: ProcessGauge.of(pid) for name, pid in self._processes.items()},
            redis_keys=tuple(sorted(key.decode() for key in keys)),
            redis_mb=info["used_memory"] / 1e6,
            redis_log_mb=_size_mb(self._data / "redis"),
            database_mb=sum(_size_mb(path) for path in self._data.glob("matting.db*")),
            logs_mb=_size_mb(self._data / "logs"),
            multipart_uploads=self._multipart_uploads(),
            temporary_files=len(list((self._data / "tmp").rglob("*"))),
        )

    def objects(self, prefix: str) -> dict[str, int]:
        """Bytes of each object of the own bucket under a prefix, by key."""
        pages = self._s3.get_paginator("list_objects_v2")
        return {
            entry["Key"]: entry["Size"]
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix)
            for entry in page.get("Contents", [])
        }

    def messages_left(self) -> int:
        """Messages in the queue, and messages that a worker has not acknowledged yet."""
        unacknowledged: Any = self._redis.hlen("unacked")
        return queue_depth(self._queue) + int(unacknowledged)

    def sees_multipart_uploads(self) -> bool:
        """Whether an unfinished multipart upload shows. A figure that can never change proves
        nothing.
        """
        place = {"Bucket": self._bucket, "Key": "begun-and-left"}
        begun = self._s3.create_multipart_upload(**place)
        seen = self._multipart_uploads()
        self._s3.abort_multipart_upload(**place, UploadId=begun["UploadId"])
        return seen == 1 and self._multipart_uploads() == 0

    def _multipart_uploads(self) -> int:
        return len(self._s3.list_multipart_uploads(Bucket=self._bucket).get("Uploads", []))

    def close(self) -> None:
        """Close the connections."""
        self._queue.close()
        self._redis.close()
        self._s3.close()


def _size_mb(path: Path) -> float:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files) / 1e6
