"""`matting worker`: one worker process, or one for each device of this machine."""

import os
import sys

from deploy.stack.device_probes import serve_probes
from deploy.stack.device_workers import devices_of, run_until_stopped, workers_of
from shared.errors import SetupError
from shared.settings import get_settings
from shared.telemetry import configure_logging

CELERY = [
    *("-m", "celery", "-A", "worker.app", "worker", "-P", "threads"),
    *("--without-gossip", "--without-mingle", "-l", "WARNING"),
]


def run_worker() -> None:
    """Become the worker, or run one for each device in MATTING_DEVICES until SIGTERM.

    Raises SetupError.
    """
    settings = get_settings()
    command = [sys.executable, *CELERY]
    if settings.devices is None:
        os.execv(command[0], command)  # noqa: S606  # signals must reach Celery
    configure_logging(settings)
    workers = workers_of(settings, devices_of(settings), command)
    if settings.worker_metrics_port is None:
        run_until_stopped(workers)
        return
    try:
        server = serve_probes(workers, settings.worker_metrics_port)
    except OSError as error:
        raise SetupError(
            f"MATTING_WORKER_METRICS_PORT={settings.worker_metrics_port} can't be used: {error}"
        ) from error
    try:
        run_until_stopped(workers)
    finally:
        server.shutdown()
        server.server_close()
