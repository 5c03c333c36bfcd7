"""Prometheus metrics: the queue by lane, the backlog, requests by route, several processes; and the
audit log.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.stack.processes import answers, free_port, start, wait_until
from shared import job_store
from shared.database import Database
from shared.job_store import NewItem
from shared.queue import Celery, Message, lane_of, publish_many, queue_lanes, queue_name
from shared.settings import Settings


@pytest.fixture
def client(settings: Settings, tmp_path: Path) -> Iterator[httpx.Client]:
    """A real API process whose reconciler does not publish the test's items."""
    migrated = Database(settings.database_url, process="tests")
    migrated.migrate()
    migrated.close()
    port = free_port()
    assert settings.aws_access_key_id
    assert settings.aws_secret_access_key
    env = os.environ | {
        "MATTING_DATABASE_URL": settings.database_url,
        "MATTING_REDIS_URL": settings.redis_url,
        "MATTING_S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
        "AWS_ACCESS_KEY_ID": settings.aws_access_key_id.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key.get_secret_value(),
        "MATTING_PUBLISH_EVERY_MS": "600000",
        "MATTING_RECONCILE_S": "600",
    }
    command = [sys.executable, "-m", "uvicorn", "api.app:app", "--port", str(port)]
    process = start("api", command, log=tmp_path / "api.log", folder=Path.cwd(), env=env)
    wait_until(lambda: answers(port), process, timeout_s=180)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client
    process.stop(10)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**named: str) -> frozenset[tuple[str, str]]:
    return frozenset(named.items())


def add_job(database: Database, *, images: int, priority: int, model: str | None = None) -> None:
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, f"key-{priority}")
        job = job_store.create_job(
            session,
            api_key_id=key.id,
            options={"model": model} if model else {},
            priority=priority,
            labels={},
            source={"kind": "keys"},
        )
        items = [NewItem(name=f"{n}.jpg", source=f"s3://b/{n}") for n in range(images)]
        job_store.add_items(session, job.id, items)


def test_the_backlog_is_counted_by_model_and_priority(database: Database) -> None:
    add_job(database, images=3, priority=5)
    add_job(database, images=2, priority=9, model="other")
    with database.transaction() as session:
        found = {(one.model, one.priority): one for one in job_store.backlog(session)}
    assert {key: one.waiting for key, one in found.items()} == {(None, 5): 3, ("other", 9): 2}
    assert all(0 <= one.oldest_s < 60 for one in found.values())


def test_lanes_report_depth_and_wait_in_their_order(queue: Celery) -> None:
    from shared.models import new_id

    def message(priority: int, *, express: bool = False) -> Message:
        return Message(
            item_id=new_id(), job_id=new_id(), name="a.jpg", priority=priority, express=express
        )

    publish_many(queue, [message(9), message(5), message(4), message(0), message(3, express=True)])
    lanes = queue_lanes(queue)
    assert [(lane.name, lane.messages) for lane in lanes] == [
        ("express", 1),
        ("high", 1),
        ("normal", 2),
        ("low", 1),
    ]
    assert all(0 < lane.oldest_s < 60 for lane in lanes)
    assert [lane_of(priority) for priority in (9, 6, 5, 3, 2, 0)] == [
        "high", "high", "normal", "normal", "low", "low",
    ]  # fmt: skip


def test_metrics_show_the_queue_and_requests_by_template(
    client: httpx.Client, settings: Settings, queue: Celery
) -> None:
    database = Database(settings.database_url, process="tests")
    add_job(database, images=4, priority=5)
    database.close()
    client.get("/v1/jobs/0199a5a0-0000-7000-8000-000000000000")
    client.get("/no/such/place")
    found = samples(client.get("/metrics").text)
    normal = labels(queue=queue_name(None), priority="normal")
    assert found["matting_backlog_images", normal] == 4
    assert found["matting_queue_depth", normal] == 0
    assert found["matting_warm_workers", labels()] == 0
    count = "matting_request_seconds_count"
    assert found[count, labels(method="GET", route="/v1/jobs/{job_id}", status="401")] >= 1
    assert found[count, labels(method="GET", route="none", status="404")] >= 1


def test_a_request_s_id_is_returned(client: httpx.Client) -> None:
    assert (
        client.get("/healthz", headers={"X-Request-ID": "shop-7"}).headers["X-Request-ID"]
        == "shop-7"
    )
    made = client.get("/healthz", headers={"X-Request-ID": "a b;c"}).headers["X-Request-ID"]
    assert len(made) == 32


def test_several_processes_are_added_up(tmp_path: object) -> None:
    """`uvicorn --workers` needs this: each process writes a file, and each of them can report the
    sum.
    """
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    count = "from shared.telemetry import IMAGES; IMAGES.labels('succeeded', '').inc(2)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], env=env, check=True)
    show = (
        "from prometheus_client import CollectorRegistry, generate_latest\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "import shared.telemetry\n"
        "registry = CollectorRegistry(); MultiProcessCollector(registry)\n"
        "print(generate_latest(registry).decode())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", show], env=env, check=True, capture_output=True, text=True
    )
    found = samples(shown.stdout)
    assert found["matting_images_total", labels(status="succeeded", code="")] == 4


def test_the_audit_log_says_who_changed_what(
    client: httpx.Client, settings: Settings, tmp_path: Path
) -> None:
    database = Database(settings.database_url, process="tests")
    with database.transaction() as session:
        key, secret = job_store.create_api_key(session, "shop")
        key_id = str(key.id)
    database.close()
    client.headers["X-Api-Key"] = secret
    job = client.post("/v1/jobs", json={"source": {"keys": ["a.jpg"]}}).raise_for_status().json()
    client.get(f"/v1/jobs/{job['id']}").raise_for_status()
    client.delete(f"/v1/jobs/{job['id']}", headers={"X-Request-ID": "why-1"}).raise_for_status()
    assert client.post("/v1/jobs", json={"source": {}}).status_code == 422
    lines = [line for line in (tmp_path / "api.log").read_text().splitlines() if " audit " in line]
    made, deleted = lines
    assert "route=/v1/jobs" in made
    for words in (key_id, "shop", "DELETE", job["id"], "status=204", "why-1"):
        assert words in deleted, deleted
    assert secret not in "".join(lines)
