"""`matting doctor`: tries every part as it is configured, and names the fix for what fails."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from api.client import MattingClient
from deploy.local import find_stack
from deploy.processes import program
from shared import job_store
from shared.database import Database
from shared.errors import MattingError, StackError
from shared.queue import make_app, queue_depth
from shared.settings import Settings
from shared.storage import Storage
from worker.predictor import load_predictor


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    part: str
    ok: bool
    detail: str


def examine(data: Path) -> list[Finding]:
    """Check the production parts when MATTING_DATABASE_URL is set, else the embedded stack's."""
    settings = Settings()
    checks: list[tuple[str, Callable[[], str]]] = [("python", _python)]
    if "MATTING_DATABASE_URL" in os.environ:
        checks += [
            ("database", lambda: _database(settings)),
            ("queue", lambda: _queue(settings)),
            ("storage", lambda: _storage(settings)),
            ("worker", lambda: _worker(settings)),
        ]
    else:
        checks += [
            ("redis-server", lambda: program("redis-server")),
            ("rclone (S3)", lambda: program("rclone")),
            ("stack", lambda: _stack(data)),
        ]
    checks.append(("model", lambda: _model(settings)))
    return [_try(part, check) for part, check in checks]


def _try(part: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, True, check())
    except MattingError as error:
        return Finding(part, False, error.message)
    except httpx.TransportError as error:
        return Finding(part, False, f"It does not answer: {error}. Start it with `matting up`.")


def _python() -> str:
    return f"{platform.python_version()} on {len(os.sched_getaffinity(0))} cores"


def _database(settings: Settings) -> str:
    database = Database(settings.database_url, process="doctor")
    try:
        database.ping()
        current, newest = database.revisions()
        if current != newest:
            raise StackError(
                f"The tables are at revision {current}, the code is at {newest}: run "
                "`matting migrate`"
            )
        return f"{database.url.get_backend_name()}, revision {current}"
    finally:
        database.close()


def _queue(settings: Settings) -> str:
    queue = make_app(settings)
    try:
        return f"{queue_depth(queue)} messages waiting"
    finally:
        queue.close()


def _storage(settings: Settings) -> str:
    storage = Storage(settings)
    try:
        storage.ping()
        return f"bucket {storage.bucket} answers"
    finally:
        storage.close()


def _worker(settings: Settings) -> str:
    database = Database(settings.database_url, process="doctor")
    try:
        with database.transaction() as session:
            live = job_store.live_workers(session, stale_s=settings.worker_stale_s)
    finally:
        database.close()
    if not live:
        raise StackError("No warm worker: start one with `celery -A worker.app worker -P threads`")
    return f"{len(live)} warm: {', '.join(one.id for one in live)}"


def _stack(data: Path) -> str:
    try:
        address, known = find_stack(data)
    except StackError:
        return f"none runs on {data}; `matting up` starts one"
    with MattingClient(address.api_url, known.api_key) as client:
        ready = client.readiness()
    if not ready["ready"]:
        wrong = "; ".join(f"{k}: {v}" for k, v in ready["checks"].items() if v != "ok")
        raise StackError(f"{address.api_url} runs but is not ready ({wrong})")
    return f"runs at {address.api_url}, {len(ready['workers'])} warm worker(s)"


def _model(settings: Settings) -> str:
    predictor = load_predictor(settings)
    known = predictor.describe()
    predictor.close()
    text = (
        f"{known['model']} warm in {known['warmup_s']} s on {known['device']} "
        f"({known['configuration']}), {len(known['shapes'])} shapes"
    )
    return f"{text}; {known['fallback']}" if known["fallback"] else text
