"""The embedded stack, started like a user's, with leases short enough to see them expire."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from api.client import Job, MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage

QUICK = {
    "MATTING_LEASE_S": "6",
    "MATTING_HEARTBEAT_S": "1",
    "MATTING_RECONCILE_S": "0.5",
    # The tests send one photo many times and want it computed each time.
    "MATTING_REUSE_RESULTS": "false",
    # It takes seconds to warm up, and the tests start many workers.
    "MATTING_SECOND_MODEL": "none",
    "MATTING_WATCH_MIN_EVERY_S": "1",
    # One network warms up in half the time of two.
    "MATTING_PREDICT_STREAMS": "1",
}


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The running system."""
    extra = QUICK | {"MATTING_SOURCE_BUCKETS": "photos"}
    with Stack(tmp_path_factory.mktemp("stack"), env=extra) as stack:
        yield stack


@pytest.fixture(scope="package")
def bucket(stack: Stack) -> Iterator[Storage]:
    """A customer's bucket, `photos`."""
    storage = Storage(stack.settings.model_copy(update={"s3_bucket": "photos"}))
    storage.ensure_bucket()
    yield storage
    storage.close()


class EagerClient(MattingClient):
    """Asks more often whether a job has ended: the tests wait for hundreds of short ones."""

    def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Job], None] = lambda _job: None,
        every_s: float = 0.1,
    ) -> Job:
        return super().wait(job_id, on_progress=on_progress, every_s=every_s)


@pytest.fixture
def client(stack: Stack) -> Iterator[MattingClient]:
    """A client with the stack's own key."""
    with EagerClient(stack.address.api_url, stack.secrets.api_key) as client:
        yield client


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """Plain HTTP with the stack's own key, for requests that the client can't send."""
    with http_with(stack, stack.secrets.api_key) as client:
        yield client


def http_with(stack: Stack, key: str) -> httpx.Client:
    """Plain HTTP with this key."""
    return httpx.Client(
        base_url=stack.address.api_url, headers={"Authorization": f"Bearer {key}"}, timeout=120
    )


@pytest.fixture
def folder(tmp_path: Path, jpeg: bytes) -> Path:
    """Photos in nested folders with equal names, and two bad files."""
    files = {
        "skuA/main.jpg": jpeg,
        "skuB/main.jpg": jpeg,
        "x.jpg": jpeg,
        "x.png": _as_png(jpeg),
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "page.jpg": b"<html>not found</html>",
    }
    for name, data in files.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "photos"


def _as_png(jpeg: bytes) -> bytes:
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return bytes(cv2.imencode(".png", image)[1])
