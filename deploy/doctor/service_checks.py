"""Checks of the services for `matting doctor`: database, queue, storage, clocks, workers.

Each check uses the service as the system does. It returns a short description of what it found, or
raises CheckFailed with the fix.
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
from typing import Any

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
from shared.redis_connection import RedisAddress, refuse_cluster
from shared.settings import Settings
from shared.storage import Storage

MAX_CLOCK_SKEW_S = 5.0
"""Largest accepted difference to the database's clock. Leases last MATTING_LEASE_S (20 s)."""

MAX_STORAGE_CLOCK_SKEW_S = 300.0
"""Largest accepted difference to the storage's clock. S3 rejects every request beyond 900 s, and
presigned URLs expire early."""

CLOCK_FIX = "timedatectl set-ntp true, on both machines (containers use their host's clock)"


def secrets(settings: Settings) -> str:
    """Check that no secret is short or a known default."""
    try:
        refuse_weak_secrets(settings, os.environ)
    except SetupError as error:
        raise CheckFailed(
            error.detail, "Create each with openssl rand -hex 24, then restart"
        ) from error
    return "none is short or a known default"


@contextmanager
def _open_database(settings: Settings) -> Iterator[Database]:
    """Open the database. Raises CheckFailed when it is unavailable."""
    opened = Database.of(settings, process="doctor")
    try:
        yield opened
    except DatabaseError as error:
        raise CheckFailed(error.detail, _database_fix(opened, error.detail)) from error
    finally:
        opened.close()


def _database_fix(database: Database, message: str) -> str:
    url = database.url
    if database.is_sqlite:
        return f"Make the folder of {url.database} (MATTING_DATABASE_URL) exist and be writable"
    where = f"-h {url.host or url.query.get('host', 'localhost')} -p {url.port or 5432}"
    if re.search(r"certificate|SSL", message):
        return (
            "Name the CA's file in MATTING_DATABASE_URL: "
            "?sslmode=verify-full&sslrootcert=/certs/ca.pem; the host in the URL must be in the "
            "server's certificate (docs/managed.md)"
        )
    if re.search(r"password|role .* does not exist|no pg_hba.conf entry", message):
        return (
            f"Find the valid password with psql {where} -U {url.username} {url.database} and put "
            f"it into MATTING_DATABASE_URL; or change it: ALTER ROLE {url.username} PASSWORD '…'"
        )
    if re.search(r"database .* does not exist", message):
        return f"createdb {where} -U {url.username} {url.database}; then: matting prepare"
    if re.search(r"too many clients|connection slots", message):
        return "Raise max_connections of PostgreSQL: a worker uses up to 16, an API process 40"
    return f"pg_isready {where}; start PostgreSQL there, or correct MATTING_DATABASE_URL"


def database(settings: Settings) -> str:
    """Check that the database answers and has the schema revision of this code."""
    with _open_database(settings) as opened:
        opened.ping()
        current, newest = opened.revisions()
        kind = opened.url.get_backend_name()
        if not opened.has_time_limits():
            raise CheckFailed(
                "The server does not apply this service's time limits: MATTING_DATABASE_URL is a"
                " pooler",
                "Set MATTING_DATABASE_DIRECT_URL to the database's own address",
            )
        if settings.database_direct_url:
            kind += " through a pooler"
        if mode := opened.url.query.get("sslmode"):
            kind += f" (TLS: {mode})"
        newer = opened.unapplied() is None
    if newer:
        return f"{kind}, revision {current}, newer than this version's {newest}"
    if current != newest:
        raise CheckFailed(
            f"The schema is at revision {current}; the code needs {newest}", "matting migrate"
        )
    return f"{kind}, revision {current}"


def clock(settings: Settings) -> str:
    """Check the difference of this machine's clock to those of the storage and the database."""
    storage_skew_s = _storage_clock_skew_s(settings)
    if storage_skew_s is not None and abs(storage_skew_s) > MAX_STORAGE_CLOCK_SKEW_S:
        raise CheckFailed(
            f"This machine's clock is {storage_skew_s:+.0f} s off the storage's: S3 rejects"
            " requests that are 900 s off",
            CLOCK_FIX,
        )
    with _open_database(settings) as opened, opened.transaction() as session:
        began = time.monotonic()
        database_time = now(session)
        passed = time.monotonic() - began
        database_skew_s = (datetime.now(UTC) - database_time).total_seconds() - passed
    if abs(database_skew_s) > MAX_CLOCK_SKEW_S:
        raise CheckFailed(
            f"This machine's clock is {database_skew_s:+.0f} s off the database's, which decides"
            " when leases end",
            CLOCK_FIX,
        )
    storage_text = "" if storage_skew_s is None else f", {storage_skew_s:+.0f} s off the storage's"
    return f"{database_skew_s:+.2f} s off the database's{storage_text}"


def _storage_clock_skew_s(settings: Settings) -> float | None:
    """The local clock minus the storage's; None when the storage does not answer.

    The `Date` header of any answer gives the time, so no access key is needed.
    """
    url = settings.s3_endpoint_url or f"https://s3.{settings.s3_region}.amazonaws.com"
    with suppress(httpx.HTTPError, ValueError):
        date = httpx.head(url, timeout=5).headers.get("date", "")
        return (datetime.now(UTC) - parsedate_to_datetime(date).astimezone(UTC)).total_seconds()
    return None


def queue(settings: Settings) -> str:
    """Check that Redis answers, accepts writes, and evicts no messages."""
    opened = make_app(settings)
    try:
        refuse_cluster(settings)
        facts, depth = queue_facts(opened), queue_depth(opened)
        try_to_write(opened)
    except QueueError as error:
        raise CheckFailed(error.detail, _queue_fix(error.detail)) from error
    finally:
        opened.close()
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise CheckFailed(
            f"Redis evicts messages when its memory is full (maxmemory-policy {policy})",
            "redis-cli -u $MATTING_REDIS_URL config set maxmemory-policy noeviction",
        )
    kept = (
        "appendonly"
        if facts.get("aof_enabled")
        else "not persistent (lost messages are published again)"
    )
    name = _redis_name(facts, RedisAddress.of(settings))
    return f"{name}, {kept}, {depth} messages waiting"


def _redis_name(facts: dict[str, Any], address: RedisAddress) -> str:
    """Program, version, and how it is reached."""
    program = "Valkey" if "valkey_version" in facts else "Redis"
    version = facts.get("valkey_version") or facts.get("redis_version", "?")
    ways = [f"primary {address.master} of Sentinel"] if address.sentinels else []
    if address.tls:
        verified = address.tls["ssl_cert_reqs"] == "required"
        ways.append("TLS" if verified else "TLS without verification")
    return f"{program} {version}" + (f" ({', '.join(ways)})" if ways else "")


def _queue_fix(message: str) -> str:
    cli = "redis-cli -u $MATTING_REDIS_URL"
    lowered = message.lower()
    if "certificate" in lowered or "ssl" in lowered:
        return (
            "Name the CA's file in MATTING_REDIS_URL: rediss://…?ssl_ca_certs=/certs/ca.pem; the "
            "host in the URL must be in the server's certificate (docs/managed.md)"
        )
    if re.search(r"auth|username-password|noperm", lowered):
        return (
            "Put the user and password of this Redis into MATTING_REDIS_URL: "
            "redis://USER:PASSWORD@HOST:6379/0 (no user: redis://:PASSWORD@HOST:6379/0)"
        )
    if "misconf" in lowered or "no space" in lowered:
        return f"Free disk space for Redis in `{cli} config get dir` (df -h there)"
    if "maxmemory" in lowered:
        return f"Give Redis more memory: {cli} config set maxmemory 2gb (matting status shows jobs)"
    if "read only replica" in lowered:
        return "Set MATTING_REDIS_URL to the primary; this is a replica"
    if "loading" in lowered:
        return f"Redis is loading its data from disk: wait until {cli} ping says PONG"
    return f"{cli} ping; start Redis there, or correct MATTING_REDIS_URL"


def storage(settings: Settings) -> str:
    """Check that an object in the bucket can be written, read and deleted."""
    opened = Storage(settings)
    key = f"doctor/{uuid.uuid4().hex}"
    endpoint = settings.s3_endpoint_url or "AWS"
    try:
        opened.ping()
        opened.put(key, b"matting doctor", "text/plain")
        read = opened.get(opened.bucket, key, 100)
        opened.delete_many([key])
        source = opened.credentials_source
    except MattingError as error:
        raise CheckFailed(f"{endpoint}: {error.detail}", _storage_fix(error, settings)) from error
    finally:
        opened.close()
    if read != b"matting doctor":
        raise CheckFailed(
            f"{endpoint} returned other bytes than were written",
            "Check the proxies between this machine and the storage",
        )
    return f"{endpoint}, bucket {opened.bucket}: wrote, read, deleted (access key: {source})"


def _storage_fix(error: MattingError, settings: Settings) -> str:
    match error:
        case StorageClockError():
            return CLOCK_FIX
        case StorageKeyError():
            return (
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key of "
                f"{settings.s3_endpoint_url or 'AWS'}, or give this machine a role (docs/aws.md), "
                "then restart API and workers"
            )
        case BucketMissingError():
            return "Create it with matting prepare, or correct MATTING_S3_BUCKET"
    if isinstance(error, SourceDeniedError) or "refuses" in error.detail:
        return f"Allow this key the actions of deploy/aws/policy.json on {settings.s3_bucket}"
    if settings.s3_endpoint_url is None:
        return "Set MATTING_S3_ENDPOINT_URL; without it the storage is AWS"
    return (
        f"Start the storage at {settings.s3_endpoint_url} (curl -I must answer), or correct "
        "MATTING_S3_ENDPOINT_URL"
    )


def public_urls(settings: Settings) -> str:
    """Check that a presigned URL, as customers get it, returns the object."""
    opened = Storage(settings)
    key = f"doctor/{uuid.uuid4().hex}"
    shown = settings.s3_public_endpoint_url or settings.s3_endpoint_url or "AWS"
    try:
        opened.put(key, b"matting doctor", "text/plain")
        answer = httpx.get(opened.presign_get(key, ttl_s=60, filename="doctor.txt"), timeout=10)
        opened.delete_many([key])
    except MattingError as error:
        raise CheckFailed(error.detail, "Fix the check `storage` first") from error
    except httpx.HTTPError as error:
        # Not a failure: inside a container, the public address often can't be reached.
        return f"{shown} can't be reached from here ({error}): try a result's URL from outside"
    finally:
        opened.close()
    if answer.status_code != 200:
        raise CheckFailed(
            f"{shown} answered {answer.status_code} to a presigned URL",
            "Set MATTING_S3_PUBLIC_ENDPOINT_URL to the address at which customers reach the"
            " storage; a proxy in front of it must keep the Host header",
        )
    return f"presigned URLs work at {shown}"


def workers(settings: Settings) -> str:
    """Check that a warm worker serves every model that jobs may name."""
    with _open_database(settings) as opened, opened.transaction() as session:
        live = job_store.live_workers(session, stale_s=settings.worker_stale_s)
    start = "celery -A worker.app worker -P threads"
    if not live:
        raise CheckFailed(
            "No worker is ready",
            f"{start} (compose: docker compose up -d worker); if it does not start, its log says "
            "why",
        )
    served = {name for one in live for name in one.description.get("models", [])}
    missing = [name for name in settings.offered_models if name not in served]
    if missing:
        raise CheckFailed(
            f"No ready worker serves {', '.join(missing)}: jobs with that model wait",
            f"MATTING_WORKER_MODELS={','.join(missing)} {start}",
        )
    found = f"{len(live)} ready: {', '.join(one.id for one in live)}"
    second = settings.default_second_model
    if second is not None and second not in served:
        found += f"; none serves {second}, so doubtful photos get no second opinion"
    return found


def stack(data: Path) -> str:
    """Check the embedded stack, if it is running."""
    try:
        address, known = find_stack(data)
    except StackError:
        return f"no stack is running on {data}; `matting up` starts one"
    with MattingClient(address.api_url, known.api_key) as client:
        ready = client.readiness()
    flower = httpx.get(address.flower_url, timeout=10).status_code
    if not ready["ready"] or flower >= 500:
        wrong = [
            f"{name}: {message}" for name, message in ready["checks"].items() if message != "ok"
        ]
        raise CheckFailed(
            f"{address.api_url} runs but is not ready ({'; '.join(wrong) or f'Flower: {flower}'})",
            f"Look at {data}/logs; then stop it with Ctrl-C and run matting up --data {data}",
        )
    return f"running at {address.api_url}, {len(ready['workers'])} ready worker(s)"
