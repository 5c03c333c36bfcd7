"""The checks of `matting doctor`: each tries a part and returns what it found, or raises Broken."""

import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from PIL import features

from api.client import MattingClient
from deploy.address import find_stack
from deploy.weak_secrets import refuse_weak_secrets
from shared import job_store
from shared.database import Database, now
from shared.errors import DatabaseError, MattingError, QueueError, SetupError, StackError
from shared.queue import make_app, queue_depth, queue_facts
from shared.settings import Settings
from shared.storage import Storage
from worker.predictor import load_predictor

MIN_MEMORY_BYTES = 1_500_000_000
"""A worker with the built-in model takes about 1 GB (tests/benchmarks/memory)."""

MIN_DISK_BYTES = 2_000_000_000
"""A pulled model takes up to 0.5 GB, unpacked beside its archive."""

MAX_CLOCK_S = 5.0
"""Leases last MATTING_LEASE_S (20 s) on the database's clock; presigned URLs on this one."""


class Broken(Exception):  # it says what a part is
    """A part does not work; `fix` is what to type or set."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.detail, self.fix = detail, fix


def python() -> str:
    """The interpreter and the cores that this process may use."""
    return f"{platform.python_version()} on {len(os.sched_getaffinity(0))} cores"


def memory() -> str:
    """Enough for one worker, by what the kernel or the container leaves."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        available = min(available, int(text))
    if available < MIN_MEMORY_BYTES:
        raise Broken(
            f"{available / 1e9:.1f} GB of memory are left; a worker takes about 1 GB",
            "Give it 3 GB (compose: deploy.resources.limits.memory), or MATTING_PREDICT_STREAMS=1",
        )
    return f"{available / 1e9:.1f} GB free"


def disk(folder: Path) -> str:
    """Room for models, and the right to write them."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise Broken(
            f"{existing} can't be written by user {os.getuid()}",
            f"chown -R {os.getuid()} {existing}",
        )
    free = shutil.disk_usage(existing).free
    if free < MIN_DISK_BYTES:
        raise Broken(
            f"{free / 1e9:.1f} GB are free below {existing}",
            f"Free 2 GB there (du -xh --max-depth=2 {existing} | sort -h | tail)",
        )
    return f"{free / 1e9:.0f} GB free below {existing}"


def formats() -> str:
    """What this build of Pillow can write."""
    missing = [name for name in ("jpg", "zlib", "webp", "avif") if not features.check(name)]
    if missing:
        raise Broken(
            f"Pillow can't write {', '.join(missing)}",
            f"{sys.executable} -m pip install --force-reinstall --no-cache-dir pillow",
        )
    return "PNG, JPEG, WebP, AVIF"


def secrets(settings: Settings) -> str:
    """None that anybody could guess."""
    try:
        refuse_weak_secrets(settings, os.environ)
    except SetupError as error:
        raise Broken(error.detail, "openssl rand -hex 24, for each; then start again") from error
    return "none is a known default or short"


@contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """The database; Broken when it is away."""
    opened = Database(settings.database_url, process="doctor")
    url = opened.url
    try:
        yield opened
    except DatabaseError as error:
        where = f"-h {url.host or 'localhost'} -p {url.port or 5432}"
        fix = f"pg_isready {where}; then check MATTING_DATABASE_URL"
        raise Broken(error.detail, fix) from error
    finally:
        opened.close()


def database(settings: Settings) -> str:
    """It answers, and its tables are those of this code."""
    with _opened(settings) as opened:
        opened.ping()
        current, newest = opened.revisions()
        kind = opened.url.get_backend_name()
    if current != newest:
        raise Broken(
            f"Its tables are at revision {current}, the code at {newest}", "matting migrate"
        )
    return f"{kind}, revision {current}"


def clock(settings: Settings) -> str:
    """How far the database's clock is from this machine's."""
    with _opened(settings) as opened, opened.transaction() as session:
        began = time.monotonic()
        theirs = now(session)
        passed = time.monotonic() - began
        off_s = (datetime.now(UTC) - theirs).total_seconds() - passed
    if abs(off_s) > MAX_CLOCK_S:
        raise Broken(
            f"This machine's clock is {off_s:+.0f} s off the database's: presigned URLs fail",
            "timedatectl set-ntp true, on both",
        )
    return f"{off_s:+.2f} s off the database's"


def queue(settings: Settings) -> str:
    """Redis answers, keeps what it was given, and throws nothing away."""
    opened = make_app(settings)
    try:
        facts, depth = queue_facts(opened), queue_depth(opened)
    except QueueError as error:
        raise Broken(
            error.detail, "redis-cli -u $MATTING_REDIS_URL ping; then check MATTING_REDIS_URL"
        ) from error
    finally:
        opened.close()
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise Broken(
            f"Redis throws messages away when its memory is full (maxmemory-policy {policy})",
            "redis-cli -u $MATTING_REDIS_URL config set maxmemory-policy noeviction",
        )
    kept = "appendonly" if facts.get("aof_enabled") else "not on disk: a restart publishes again"
    return f"Redis {facts.get('redis_version', '?')}, {kept}, {depth} messages waiting"


def storage(settings: Settings) -> str:
    """An object of the own bucket can be written, read and removed."""
    opened = Storage(settings)
    key = f"doctor/{uuid.uuid4().hex}"
    endpoint = settings.s3_endpoint_url or "AWS"
    try:
        opened.ping()
        opened.put(key, b"matting doctor", "text/plain")
        read = opened.get(opened.bucket, key, 100)
        opened.delete_many([key])
    except MattingError as error:
        raise Broken(
            f"{endpoint}, bucket {opened.bucket}: {error.detail}",
            "matting prepare (makes the bucket); else check MATTING_S3_ENDPOINT_URL, "
            "MATTING_S3_BUCKET, AWS_ACCESS_KEY_ID, and that this key may Put, Get, Delete and List",
        ) from error
    finally:
        opened.close()
    if read != b"matting doctor":
        raise Broken(
            f"{endpoint} gave back other bytes than it was given", "Look at what is between"
        )
    return f"{endpoint}, bucket {opened.bucket}: wrote, read, removed"


def public_urls(settings: Settings) -> str:
    """A presigned URL, as customers get it, leads to the object."""
    opened = Storage(settings)
    key = f"doctor/{uuid.uuid4().hex}"
    shown = settings.s3_public_endpoint_url or settings.s3_endpoint_url or "AWS"
    try:
        opened.put(key, b"matting doctor", "text/plain")
        answer = httpx.get(opened.presign_get(key, ttl_s=60, filename="doctor.txt"), timeout=10)
        opened.delete_many([key])
    except MattingError as error:
        raise Broken(error.detail, "Mend the storage first") from error
    except httpx.HTTPError as error:
        # In a container the customers' name for the storage often leads nowhere: no fault.
        return f"{shown} is not reached from here ({error}): open a result's URL from outside"
    finally:
        opened.close()
    if answer.status_code != 200:
        raise Broken(
            f"{shown} answered {answer.status_code} to a presigned URL",
            "Set MATTING_S3_PUBLIC_ENDPOINT_URL to where customers reach the storage;"
            " a proxy before it must keep the Host header",
        )
    return f"presigned URLs lead to {shown}"


def workers(settings: Settings) -> str:
    """A warm one for every model that jobs may name."""
    with _opened(settings) as opened, opened.transaction() as session:
        live = job_store.live_workers(session, stale_s=settings.worker_stale_s)
    start = "celery -A worker.app worker -P threads"
    if not live:
        raise Broken("No worker is warm", f"{start}; its log names what keeps it from starting")
    served = {name for one in live for name in one.description.get("models", [])}
    missing = [name for name in settings.offered_models if name not in served]
    if missing:
        raise Broken(
            f"No warm worker serves {', '.join(missing)}: jobs that name it wait",
            f"MATTING_WORKER_MODELS={','.join(missing)} {start}",
        )
    return f"{len(live)} warm: {', '.join(one.id for one in live)}"


def stack(data: Path) -> str:
    """The embedded one, if it runs."""
    try:
        address, known = find_stack(data)
    except StackError:
        return f"none runs on {data}; `matting up` starts one"
    with MattingClient(address.api_url, known.api_key) as client:
        ready = client.readiness()
    flower = httpx.get(address.flower_url, timeout=10).status_code
    if not ready["ready"] or flower >= 500:
        wrong = [f"{name}: {said}" for name, said in ready["checks"].items() if said != "ok"]
        raise Broken(
            f"{address.api_url} runs but is not ready ({'; '.join(wrong) or f'Flower: {flower}'})",
            f"Look at {data}/logs; then stop it with Ctrl-C and: matting up --data {data}",
        )
    return f"runs at {address.api_url}, {len(ready['workers'])} warm worker(s)"


def model(settings: Settings) -> str:
    """It loads, warms and gives the same mattes as its plain form."""
    predictor = load_predictor(settings)
    known = predictor.describe()
    predictor.close()
    text = (
        f"{known['model']} warm in {known['warmup_s']} s on {known['device']} "
        f"({known['configuration']}), {len(known['shapes'])} shapes"
    )
    return f"{text}; {known['fallback']}" if known["fallback"] else text
