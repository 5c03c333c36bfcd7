"""Runs the checks of `matting doctor` with the current settings and collects their results."""

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
    """The result of one check."""

    part: str
    ok: bool
    detail: str
    fix: str = ""
    """The command or setting that repairs a failure; empty when the check passed."""


def run_checks(data: Path) -> list[CheckResult]:
    """Check the production services if MATTING_DATABASE_URL is set, else the embedded stack."""
    settings = Settings()
    production = "MATTING_DATABASE_URL" in os.environ
    data_folder = settings.models_dir if production else data
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", machine_checks.python),
        ("memory", machine_checks.memory),
        ("disk", partial(machine_checks.disk, data_folder)),
        ("formats", machine_checks.formats),
        ("paddle", partial(machine_checks.paddle, settings)),
    ]
    if production:
        checks += [
            ("secrets", partial(service_checks.secrets, settings)),
            ("database", partial(service_checks.database, settings)),
            ("clock", partial(service_checks.clock, settings)),
            ("queue", partial(service_checks.queue, settings)),
            ("storage", partial(service_checks.storage, settings)),
            ("public URLs", partial(service_checks.public_urls, settings)),
            ("workers", partial(service_checks.workers, settings)),
        ]
    else:
        checks += [
            ("redis-server", lambda: program("redis-server")),
            ("rclone (S3)", lambda: program("rclone")),
            ("stack", partial(service_checks.stack, data)),
        ]
    for model in settings.served_models:
        own = settings.model_copy(update={"model": model})
        checks.append((f"model {model}"[:24], partial(machine_checks.model, own)))
    return [_run_check(part, check) for part, check in checks]


def _run_check(part: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(part, True, check())
    except CheckFailed as failure:
        return CheckResult(part, False, failure.detail, failure.fix)
    except MattingError as error:
        return CheckResult(part, False, error.detail, error.remedy)
    except httpx.TransportError as error:
        return CheckResult(part, False, f"It does not answer: {error}", "Start it: matting up")
