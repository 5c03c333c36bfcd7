"""`matting doctor`: tries every part as it is configured, and names the fix for what fails."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from deploy.doctor import machine_checks, service_checks
from deploy.doctor.check_failed import CheckFailed
from deploy.stack.processes import program
from shared.errors import MattingError
from shared.settings import Settings


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    part: str
    ok: bool
    detail: str
    fix: str = ""
    """What to type or set; empty when all is well."""


def examine(data: Path) -> list[CheckResult]:
    """Check the production parts when MATTING_DATABASE_URL is set, else the embedded stack's."""
    settings = Settings()
    production = "MATTING_DATABASE_URL" in os.environ
    place = settings.models_dir if production else data
    wanted: list[tuple[str, Callable[[], str]]] = [
        ("python", machine_checks.python),
        ("memory", machine_checks.memory),
        ("disk", partial(machine_checks.disk, place)),
        ("formats", machine_checks.formats),
        ("paddle", partial(machine_checks.paddle, settings)),
    ]
    if production:
        wanted += [
            ("secrets", partial(service_checks.secrets, settings)),
            ("database", partial(service_checks.database, settings)),
            ("clock", partial(service_checks.clock, settings)),
            ("queue", partial(service_checks.queue, settings)),
            ("storage", partial(service_checks.storage, settings)),
            ("public URLs", partial(service_checks.public_urls, settings)),
            ("workers", partial(service_checks.workers, settings)),
        ]
    else:
        wanted += [
            ("redis-server", lambda: program("redis-server")),
            ("rclone (S3)", lambda: program("rclone")),
            ("stack", partial(service_checks.stack, data)),
        ]
    for model in settings.served_models:
        own = settings.model_copy(update={"model": model})
        wanted.append((f"model {model}"[:24], partial(machine_checks.model, own)))
    return [_try(part, check) for part, check in wanted]


def _try(part: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(part, True, check())
    except CheckFailed as broken:
        return CheckResult(part, False, broken.detail, broken.fix)
    except MattingError as error:
        return CheckResult(part, False, error.detail, error.remedy)
    except httpx.TransportError as error:
        return CheckResult(part, False, f"It does not answer: {error}", "Start it: matting up")
