"""`matting doctor`: each part tried for real, and the fix for each way in which it fails."""

import uuid
from pathlib import Path

import pytest

from deploy import checks
from deploy.doctor import examine
from deploy.processes import free_port
from shared import job_store
from shared.database import Database
from shared.queue import Celery
from shared.settings import Settings


def broken(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update=values)


def test_a_whole_system_passes(
    settings: Settings, database: Database, queue: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = database.url.render_as_string(hide_password=False)
    monkeypatch.setenv("MATTING_DATABASE_URL", url)
    monkeypatch.setenv("MATTING_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("MATTING_S3_ENDPOINT_URL", settings.s3_endpoint_url or "")
    monkeypatch.setenv("MATTING_MODELS_DIR", str(settings.models_dir))
    assert settings.aws_access_key_id is not None
    assert settings.aws_secret_access_key is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.aws_access_key_id.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.aws_secret_access_key.get_secret_value())
    monkeypatch.setattr(checks, "model", lambda _settings: "warm")  # loaded elsewhere, in seconds
    with database.transaction() as session:
        job_store.register_worker(session, "w1", {"models": ["builtin"]})
    findings = examine(Path("unused"))
    assert {one.part for one in findings} >= {
        "memory", "disk", "formats", "secrets", "database", "clock", "queue", "storage",
        "public URLs", "workers", "model builtin",
    }  # fmt: skip
    assert [one for one in findings if not one.ok] == []


def test_tables_that_are_missing_or_old(settings: Settings) -> None:
    with pytest.raises(checks.Broken) as caught:
        checks.database(settings)
    assert caught.value.fix == "matting migrate"


def test_a_database_that_is_away_and_no_password_in_what_is_said(settings: Settings) -> None:
    away = f"postgresql+psycopg://matting:hush@127.0.0.1:{free_port()}/matting"
    for check in (checks.database, checks.clock, checks.workers):
        with pytest.raises(checks.Broken) as caught:
            check(broken(settings, database_url=away))
        assert "pg_isready -h 127.0.0.1" in caught.value.fix
        assert "hush" not in caught.value.fix + caught.value.detail


def test_a_queue_that_is_away_or_forgets(settings: Settings, queue: Celery) -> None:
    assert "messages waiting" in checks.queue(settings)
    with pytest.raises(checks.Broken, match="did not answer"):
        checks.queue(broken(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    with queue.connection_for_write() as connection:
        client = connection.default_channel.client  # type: ignore[attr-defined]  # redis-py's
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(checks.Broken, match="throws messages away") as caught:
                checks.queue(settings)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert caught.value.fix.endswith("config set maxmemory-policy noeviction")


@pytest.mark.parametrize(
    "wrong",
    [
        {"s3_bucket": f"none-{uuid.uuid4().hex[:8]}"},
        {"aws_secret_access_key": "not-the-right-one-at-all"},
        {"s3_endpoint_url": "http://127.0.0.1:1"},
    ],
    ids=["bucket", "secret", "endpoint"],
)
def test_a_storage_that_does_not_work(settings: Settings, wrong: dict[str, str]) -> None:
    assert "wrote, read, removed" in checks.storage(settings)
    values = settings.model_dump(exclude={"aws_access_key_id", "aws_secret_access_key"})
    assert settings.aws_access_key_id is not None
    assert settings.aws_secret_access_key is not None
    values |= {
        "aws_access_key_id": settings.aws_access_key_id.get_secret_value(),
        "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value(),
    }
    with pytest.raises(checks.Broken) as caught:
        checks.storage(Settings.model_validate(values | wrong))
    assert "MATTING_S3_ENDPOINT_URL" in caught.value.fix


def test_a_public_address_that_leads_elsewhere(settings: Settings, queue: Celery) -> None:
    assert "lead to" in checks.public_urls(settings)
    nowhere = broken(settings, s3_public_endpoint_url="http://127.0.0.1:1")
    assert "not reached from here" in checks.public_urls(nowhere)


def test_models_that_nobody_serves(settings: Settings, database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    own = broken(settings, database_url=url, models="other")
    with pytest.raises(checks.Broken, match="No worker is warm"):
        checks.workers(own)
    with database.transaction() as session:
        job_store.register_worker(session, "w1", {"models": ["builtin"]})
    with pytest.raises(checks.Broken, match="serves other") as caught:
        checks.workers(own)
    assert caught.value.fix.startswith("MATTING_WORKER_MODELS=other ")


def test_a_folder_without_room_and_a_machine_without_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "GB free" in checks.disk(tmp_path / "not-made-yet")
    assert "GB free" in checks.memory()
    monkeypatch.setattr(checks, "MIN_DISK_BYTES", 10**18)
    monkeypatch.setattr(checks, "MIN_MEMORY_BYTES", 10**18)
    with pytest.raises(checks.Broken):
        checks.disk(tmp_path)
    with pytest.raises(checks.Broken):
        checks.memory()


def test_weak_secrets_are_found(settings: Settings) -> None:
    weak = Settings.model_validate({"aws_secret_access_key": "minioadmin"})
    with pytest.raises(checks.Broken, match="AWS_SECRET_ACCESS_KEY"):
        checks.secrets(weak)
