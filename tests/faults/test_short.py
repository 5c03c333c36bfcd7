"""A few faults injected into a small job. `make faults` injects all of them many times."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.jobs import ItemStatus
from tests.faults.clips import frames_of, kill_workers_of_a_clip, put_film
from tests.faults.driving import put_photos, run_trial
from tests.faults.faults import FAULTS, Fault
from tests.faults.special import cancel_at_any_stage
from tests.faults.system import System

IMAGES = 160
IN_SHORT = (
    "SIGKILL of one",
    "SIGSTOP",
    "emptied",
    "refuses writes",
    "PostgreSQL killed",
    "PostgreSQL away",
    "frozen",
    "503 and resets",
)


@pytest.fixture(scope="module")
def system(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("faults")
    with System(folder / "system", tiny_model, seed=1) as system:
        yield system


@pytest.fixture(scope="module")
def keys(system: System) -> list[str]:
    return put_photos(system, IMAGES)


@pytest.mark.parametrize(
    "fault",
    [one for one in FAULTS if any(part in one.name for part in IN_SHORT)],
    ids=lambda fault: fault.name,
)
def test_no_image_is_lost_or_recorded_twice(fault: Fault, system: System, keys: list[str]) -> None:
    trial = run_trial(system, fault, keys, injections=1, luck=random.Random(fault.name))
    assert trial.injections == 1
    assert trial.finding.clean, trial
    assert trial.finding.failed == 0
    if fault.deaths is not None:
        assert trial.finding.deaths <= fault.deaths, "no process died"
    assert trial.finding.again <= 2 * 3 * 8, "at most what was in flight"


def test_groups_survive_the_kill_of_a_worker(system: System, keys: list[str]) -> None:
    """Each photo goes through the queue twice, and each group gets its turntable, once."""
    [kill] = [one for one in FAULTS if one.name == "SIGKILL of one of two workers"]
    trial = run_trial(
        system, kill, keys[:60], injections=1, luck=random.Random("groups"), group_size=10
    )
    assert trial.injections == 1
    assert trial.finding.clean, trial
    assert (trial.finding.failed, trial.finding.items) == (0, 66)


def test_workers_that_are_killed_lose_one_segment_of_a_clip_each(
    system: System, tmp_path: Path
) -> None:
    key = put_film(system, tmp_path, frames=600)
    item = kill_workers_of_a_clip(system, key)
    assert item.status is ItemStatus.SUCCEEDED
    assert item.clip is not None
    assert (item.clip["frames"], frames_of(system, item)) == (600, 600)
    assert item.attempts == 2, "it was cut, and joined once"


def test_a_cancelled_job_s_counters_add_up(system: System, keys: list[str]) -> None:
    trial = cancel_at_any_stage(system, keys, random.Random(3))
    assert trial.finding.clean, trial
