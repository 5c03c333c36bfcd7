"""What `matting doctor` checks of the parts that a process talks to: each check tries one for real,
and returns what it found or raises Broken with what to type.
"""

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from api.client import MattingClient
from deploy.doctor.check_failed import CheckFailed
from deploy.stack.address import find_stack
from deploy.stack.weak_secrets import refuse_weak_secrets
from shared import job_store
from shared.database import Database, now
from shared.errors import (
    BucketMissingError,
    DatabaseError,
    MattingError,
    QueueError,
    SetupError,
    SourceDeniedError,
    StackError,
    StorageClockError,
    StorageKeyError,
)
from shared.queue import make_app, queue_depth, queue_facts, try_to_write
from shared.settings import Settings
from shared.storage import Storage

MAX_CLOCK_S = 5.0
"""From the database's: leases last MATTING_LEASE_S (20 s) on it."""

MAX_STORAGE_CLOCK_S = 300.0
"""From the storage's: beyond 900 s it refuses every request, and presigned URLs end early."""

SET_CLOCK = "timedatectl set-ntp true, on both machines (containers have their machine's clock)"


def secrets(settings: Settings) -> str:
    """None that anybody could guess."""
    try:
        refuse_weak_secrets(settings, os.environ)
    except SetupError as error:
        raise CheckFailed(
            error.detail, "openssl rand -hex 24, for each; then start again"
        ) from error
    return "none is a known default or short"


@contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """The database; Broken when it is away."""
    opened = Database(settings.database_url, process="doctor")
    try:
        yield opened
    except DatabaseError as error:
        raise CheckFailed(error.detail, _database_fix(opened, error.detail)) from error
    finally:
        opened.close()


def _database_fix(database: Database, said: str) -> str:
    url = database.url
    if database.is_sqlite:
        return f"MATTING_DATABASE_URL names {url.database}: its folder must be there and writable"
    where = f"-h {url.host or url.query.get('host', 'localhost')} -p {url.port or 5432}"
    if re.search(r"password|role .* does not exist|no pg_hba.conf entry", said):
        return (
            f"psql {where} -U {url.username} {url.database} with the password that is right, and "
            f"put it into MATTING_DATABASE_URL; or set it: ALTER ROLE {url.username} PASSWORD '…'"
        )
    if re.search(r"database .* does not exist", said):
        return f"createdb {where} -U {url.username} {url.database}; then: matting prepare"
    if re.search(r"too many clients|connection slots", said):
        return "Raise max_connections of PostgreSQL: an API or worker process takes up to 16"
    return f"pg_isready {where}; start PostgreSQL there, or correct MATTING_DATABASE_URL"


def database(settings: Settings) -> str:
    """It answers, and its tables are those of this code."""
    with _opened(settings) as opened:
        opened.ping()
        current, newest = opened.revisions()
        kind = opened.url.get_backend_name()
    if current != newest:
        raise CheckFailed(
            f"Its tables are at revision {current}, the code at {newest}", "matting migrate"
        )
    return f"{kind}, revision {current}"


def clock(settings: Settings) -> str:
    """How far this machine's clock is from the storage's and the database's."""
    ahead_s = _ahead_of_storage_s(settings)
    if ahead_s is not None and abs(ahead_s) > MAX_STORAGE_CLOCK_S:
        raise CheckFailed(
            f"This machine's clock is {ahead_s:+.0f} s off the storage's: S3 refuses requests "
            "that are 900 s off",
            SET_CLOCK,
        )
    with _opened(settings) as opened, opened.transaction() as session:
        began = time.monotonic()
        theirs = now(session)
        passed = time.monotonic() - began
        off_s = (datetime.now(UTC) - theirs).total_seconds() - passed
    if abs(off_s) > MAX_CLOCK_S:
        raise CheckFailed(
            f"This machine's clock is {off_s:+.0f} s off the database's: leases of images go by it",
            SET_CLOCK,
        )
    beside = "" if ahead_s is None else f", {ahead_s:+.0f} s off the storage's"
    return f"{off_s:+.2f} s off the database's{beside}"


def _ahead_of_storage_s(settings: Settings) -> float | None:
    """By the time on any answer, for which no key is needed; None when there is none."""
    url = settings.s3_endpoint_url or f"https://s3.{settings.s3_region}.amazonaws.com"
    with suppress(httpx.HTTPError, ValueError):
        date = httpx.head(url, timeout=5).headers.get("date", "")
        return (datetime.now(UTC) - parsedate_to_datetime(date).astimezone(UTC)).total_seconds()
    return None


def queue(settings: Settings) -> str:
    """Redis answers, takes what it is given, and throws nothing away."""
    opened = make_app(settings)
    try:
        facts, depth = queue_facts(opened), queue_depth(opened)
        try_to_write(opened)
    except QueueError as error:
        raise CheckFailed(error.detail, _queue_fix(error.detail)) from error
    finally:
        opened.close()
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise CheckFailed(
            f"Redis throws messages away when its memory is full (maxmemory-policy {policy})",
            "redis-cli -u $MATTING_REDIS_URL config set maxmemory-policy noeviction",
        )
    kept = "appendonly" if facts.get("aof_enabled") else "not on disk: a restart publishes again"
    return f"Redis {facts.get('redis_version', '?')}, {kept}, {depth} messages waiting"


def _queue_fix(said: str) -> str:
    cli = "redis-cli -u $MATTING_REDIS_URL"
    lowered = said.lower()
    if re.search(r"auth|username-password|noperm", lowered):
        return (
            "Put the user and password that Redis knows into MATTING_REDIS_URL: "
            "redis://USER:PASSWORD@HOST:6379/0 (no user: redis://:PASSWORD@HOST:6379/0)"
        )
    if "misconf" in lowered or "no space" in lowered:
        return f"Redis can't write to its disk: free room in `{cli} config get dir` (df -h there)"
    if "maxmemory" in lowered:
        return f"Its memory is full: {cli} config set maxmemory 2gb (matting status: who fills it?)"
    if "read only replica" in lowered:
        return "This is a replica: MATTING_REDIS_URL must name the primary"
    if "loading" in lowered:
        return f"It is reading its file from disk: wait until {cli} ping says PONG"
    return f"{cli} ping; start Redis there, or correct MATTING_REDIS_URL"


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
        raise CheckFailed(f"{endpoint}: {error.detail}", _storage_fix(error, settings)) from error
    finally:
        opened.close()
    if read != b"matting doctor":
        raise CheckFailed(
            f"{endpoint} gave back other bytes than it was given", "Look at what is between"
        )
    return f"{endpoint}, bucket {opened.bucket}: wrote, read, removed"


def _storage_fix(error: MattingError, settings: Settings) -> str:
    match error:
        case StorageClockError():
            return SET_CLOCK
        case StorageKeyError():
            return (
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key of "
                f"{settings.s3_endpoint_url or 'AWS'}, then start API and workers again"
            )
        case BucketMissingError():
            return "matting prepare makes it; or correct MATTING_S3_BUCKET"
    if isinstance(error, SourceDeniedError) or "refuses" in error.detail:
        return (
            "Let this key s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on "
            f"{settings.s3_bucket}"
        )
    if settings.s3_endpoint_url is None:
        return "Set MATTING_S3_ENDPOINT_URL: without it AWS is meant"
    return (
        f"curl -I {settings.s3_endpoint_url} must be answered: start the storage there, or "
        "correct MATTING_S3_ENDPOINT_URL"
    )


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
        raise CheckFailed(error.detail, "Mend what `storage` says first") from error
    except httpx.HTTPError as error:
        # In a container the customers' name for the storage often leads nowhere: no fault.
        return f"{shown} is not reached from here ({error}): open a result's URL from outside"
    finally:
        opened.close()
    if answer.status_code != 200:
        raise CheckFailed(
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
        raise CheckFailed(
            "No worker is warm",
            f"{start} (compose: docker compose up -d worker); its log names what keeps it from "
            "starting",
        )
    served = {name for one in live for name in one.description.get("models", [])}
    missing = [name for name in settings.offered_models if name not in served]
    if missing:
        raise CheckFailed(
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
        raise CheckFailed(
            f"{address.api_url} runs but is not ready ({'; '.join(wrong) or f'Flower: {flower}'})",
            f"Look at {data}/logs; then stop it with Ctrl-C and: matting up --data {data}",
        )
    return f"runs at {address.api_url}, {len(ready['workers'])} warm worker(s)"
