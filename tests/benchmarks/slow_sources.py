"""Speed of storage photos beside URLs that never answer: python -m tests.benchmarks.slow_sources.

A job of photos in the storage runs alone, and then beside a job of 1,000 URLs whose server accepts
connections and never answers. It uses the embedded stack and a tiny network. Both jobs belong to
one API key.
"""

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.benchmarks.photos import draw, jpeg
from tests.benchmarks.report import report
from tests.benchmarks.tiny import export

IMAGES = 400
ROUNDS = 3
PHOTOS = 12
HANGING = 1_000
SIZE = (512, 512)
TARGET = 0.9


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts every connection and never answers."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:

        def take() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for one in held:
        one.close()


def rate(client: MattingClient, keys: list[str]) -> float:
    """Images per second of a job with these keys, from its submission to its end."""
    started = time.perf_counter()
    job = client.wait(client.submit({"keys": keys})["id"])
    if job["counts"]["succeeded"] != len(keys):
        raise SystemExit(f"the job failed: {job['counts']}")
    return len(keys) / (time.perf_counter() - started)


def main() -> None:
    """Headline: the rate beside the URLs divided by the rate alone, each the best of
    several runs.
    """
    with tempfile.TemporaryDirectory() as scratch, silent_server() as port:
        folder = Path(scratch)
        env = {
            "MATTING_MODEL": str(export(folder / "model")),
            "MATTING_LOG_LEVEL": "WARNING",
            "MATTING_ALLOW_PRIVATE_ADDRESSES": "true",
            "MATTING_REUSE_RESULTS": "false",
        }
        with Stack(folder / "data", env=env) as stack:
            storage = Storage(stack.settings)
            photos = [jpeg(draw(SIZE, seed)) for seed in range(PHOTOS)]
            keys = [f"photos/{number:04}.jpg" for number in range(IMAGES)]
            for number, key in enumerate(keys):
                storage.put(key, photos[number % PHOTOS] + number.to_bytes(2, "big"), "image/jpeg")
            storage.close()
            with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
                client.wait(client.submit({"keys": keys[:PHOTOS]})["id"])
                alone = [rate(client, keys) for _ in range(ROUNDS)]
                urls = [f"http://127.0.0.1:{port}/{number}.jpg" for number in range(HANGING)]
                hanging = client.submit({"urls": urls})["id"]
                time.sleep(3)  # the worker holds as many URLs as it takes at a time
                beside = [rate(client, keys) for _ in range(ROUNDS)]
                still = client.job(hanging)["counts"]
                client.cancel(hanging)
    details = {
        "images": IMAGES,
        "urls_that_hang": HANGING,
        "alone_images_per_s": [round(one, 1) for one in alone],
        "beside_images_per_s": [round(one, 1) for one in beside],
        "urls_job": still,
    }
    report(
        "slow_sources",
        max(beside) / max(alone),
        target=f">= {TARGET}",
        unit="of the storage's speed alone",
        details=details,
    )


if __name__ == "__main__":
    main()
