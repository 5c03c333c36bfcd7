"""Faults that need a job of their own: the API dies during submission, a job is cancelled, a disk
is full.
"""

import functools
import random
import subprocess
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import httpx

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.models import Job
from tests.faults.checks import Finding, check
from tests.faults.driving import Trial, submit, wait_for_end
from tests.faults.system import System
from tests.waiting import eventually

EXPANSION_DEADLINE_S = 60
DISK_MB = 48


def kill_the_api_while_a_job_comes_in(
    system: System, keys: Sequence[str], luck: random.Random
) -> Trial:
    """SIGKILL for the API while it accepts or lists the job. The client sends the job again with
    the same key.
    """
    started = time.monotonic()
    jobs: list[uuid.UUID] = []
    sending = threading.Thread(target=lambda: jobs.append(submit(system, keys)))
    sending.start()
    time.sleep(luck.uniform(0, 1.2))
    system.kill("api")
    system.start_api()
    sending.join()
    recovered = time.monotonic()
    [job_id] = jobs

    def listed() -> bool:
        with system.database.transaction() as session:
            return session.get_one(Job, job_id).expanded_at is not None

    eventually(listed, "the source to be listed to its end", EXPANSION_DEADLINE_S, every_s=0.1)
    recovery_s = time.monotonic() - recovered
    _ask(system, job_id, "cancel")
    wait_for_end(system, job_id)
    finding = check(system, job_id, len(keys))
    return Trial(
        _name(kill_the_api_while_a_job_comes_in), finding, 1, [recovery_s], _since(started)
    )


def cancel_at_any_stage(system: System, keys: Sequence[str], luck: random.Random) -> Trial:
    """Cancel a job while it is listed, queued or running."""
    started = time.monotonic()
    job_id = submit(system, keys)
    time.sleep(luck.uniform(0, 4))
    began = time.monotonic()
    _ask(system, job_id, "cancel")
    wait_for_end(system, job_id)
    recovery_s = time.monotonic() - began
    with system.database.transaction() as session:
        total = session.get_one(Job, job_id).total
    finding = check(system, job_id, total)
    return Trial(_name(cancel_at_any_stage), finding, 1, [recovery_s], _since(started))


def fill_the_disk(folder: Path, model: Path, photos: Sequence[bytes], injections: int) -> Trial:
    """Run the embedded stack on a small disk that fills up and is freed, again and again.

    Raises PermissionError if no file system can be mounted.
    """
    started = time.monotonic()
    disk = folder / "disk"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "matting-faults", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise PermissionError("mounting needs root")
    try:
        return _on_a_small_disk(disk, model, photos, injections, started)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def _on_a_small_disk(
    disk: Path, model: Path, photos: Sequence[bytes], injections: int, started: float
) -> Trial:
    env = {
        "MATTING_MODEL": str(model),
        "MATTING_MAX_ATTEMPTS": "12",
        "MATTING_RETRY_BASE_S": "0.5",
        "MATTING_REUSE_RESULTS": "false",
        "MATTING_LOG_LEVEL": "ERROR",
    }
    recovery_s: list[float] = []
    with Stack(disk / "data", env=env) as stack:
        client = MattingClient(stack.address.api_url, stack.secrets.api_key)
        files = []
        for number, data in enumerate(photos):
            path = disk.parent / f"{number}.jpg"
            path.write_bytes(data)
            files.append((path, f"{number}.jpg"))
        job_id = client.submit_files(files)["id"]
        for _ in range(injections):
            time.sleep(0.5)
            if client.job(job_id)["status"] in ("finished", "cancelled"):
                break
            ballast = disk / "ballast"
            subprocess.run(
                ["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True, check=False
            )
            time.sleep(2)
            ballast.unlink()
            began = time.monotonic()
            before = _settled(client, job_id)
            progressed = functools.partial(_progressed, client, job_id, before)
            eventually(progressed, "progress after the disk was freed", 90, every_s=0.1)
            recovery_s.append(time.monotonic() - began)
        job = client.wait(job_id)
        counts = job["counts"]
        items = list(client.items(job_id))
        objects = [
            item
            for item in items
            if item["result"] and client.content(item["result"])[1:4] == b"PNG"
        ]
        client.close()
    settled = counts["succeeded"] + counts["failed"] + counts["cancelled"]
    finding = Finding(
        items=len(items),
        lost=len(photos) - len(items) + counts["succeeded"] - len(objects),
        drift=abs(counts["total"] - settled),
        twice=max(0, settled - len(photos)),
        failed=counts["failed"],
        again=sum(item["attempts"] > 1 for item in items),
    )
    return Trial(_name(fill_the_disk), finding, len(recovery_s), recovery_s, _since(started))


def _progressed(client: MattingClient, job_id: str, before: int) -> bool:
    return _settled(client, job_id) != before


def _settled(client: MattingClient, job_id: str) -> int:
    try:
        job = client.job(job_id)
    except Exception:
        return -1  # the API can't write either, so it can't answer
    if job["status"] in ("finished", "cancelled"):
        return -2
    counts = job["counts"]
    return counts["succeeded"] + counts["failed"]


def _ask(system: System, job_id: uuid.UUID, verb: str) -> None:
    answer = httpx.post(
        f"{system.api_url}/v1/jobs/{job_id}/{verb}",
        headers={"Authorization": f"Bearer {system.api_key}"},
        timeout=240,
        trust_env=False,
    )
    answer.raise_for_status()


def _name(function: object) -> str:
    return str(getattr(function, "__name__", "")).replace("_", " ")


def _since(started: float) -> float:
    return time.monotonic() - started
