"""`make faults`: injects each fault at least twenty times into jobs of 2,000 images.

Prints a table, and a JSON line per fault.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from deploy.triton.repository import export
from shared.settings import Settings
from tests.benchmarks import tiny
from tests.faults.checks import photo
from tests.faults.clips import CLIPS, kill_workers_while_a_clip_is_cut_out, put_film
from tests.faults.driving import Trial, put_photos, run_trial
from tests.faults.faults import FAULTS, Fault, kill_a_worker
from tests.faults.special import (
    cancel_at_any_stage,
    fill_the_disk,
    kill_the_api_while_a_job_comes_in,
)
from tests.faults.system import System
from tests.triton import Triton, why_no_triton

DEFAULTS = Fault("SIGKILL of a worker, default settings", kill_a_worker)
CLIP_FRAMES = 600
TRITON = "Triton killed and restarted"
TABLE = "{:<46} {:>8} {:>7} {:>5} {:>5} {:>6} {:>7} {:>6} {:>7} {:>10} {:>10}"


def main() -> None:
    """Inject all faults. Exits with 1 if a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--injections", type=int, default=20)
    parser.add_argument("--only", default="", help="faults whose name has this")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    luck = random.Random(asked.seed)
    print(f"seed {asked.seed}")
    head = ("fault", "injected", "items", "lost", "twice", "drift", "failed", "again", "deaths")
    print(TABLE.format(*head, "recov. s", "worst s"), flush=True)
    clean = True
    with tempfile.TemporaryDirectory() as scratch:
        model = tiny.export(Path(scratch) / "model")
        with System(Path(scratch) / "system", model, seed=asked.seed) as system:
            keys = put_photos(system, asked.images)
            for fault in FAULTS:
                if asked.only.lower() in fault.name.lower():
                    clean &= _try(system, fault, keys, asked.injections, luck)
            if asked.only.lower() in CLIPS.lower():
                clean &= _clips(system, Path(scratch), asked.injections, luck)
            for special, count in (
                (kill_the_api_while_a_job_comes_in, 2_000),
                (cancel_at_any_stage, 400),
            ):
                if asked.only in special.__name__:
                    trials = [special(system, keys[:count], luck) for _ in range(asked.injections)]
                    clean &= _tell(trials)
        if asked.only.lower() in DEFAULTS.name.lower():
            with System(Path(scratch) / "defaults", model, quick=False, seed=asked.seed) as system:
                keys = put_photos(system, asked.images)
                clean &= _try(system, DEFAULTS, keys, asked.injections, luck)
        if asked.only.lower() in TRITON.lower():
            clean &= _triton(Path(scratch), model, asked, luck)
        if asked.only in fill_the_disk.__name__:
            photos = [photo(number) for number in range(min(asked.images, 1_000))]
            full: list[Trial] = []
            while (left := asked.injections - sum(trial.injections for trial in full)) > 0:
                folder = Path(scratch) / f"full-{len(full)}"
                full.append(fill_the_disk(folder, model, photos, left))
            clean &= _tell(full)
    raise SystemExit(0 if clean else 1)


def _triton(scratch: Path, model: Path, asked: argparse.Namespace, luck: random.Random) -> bool:
    """Kill the Triton server on which the network of both workers runs."""
    reason = why_no_triton()
    if reason is not None:
        print(f"{TRITON}: left out, {reason}")
        return True
    folder = scratch / "triton-server"
    folder.mkdir()
    export(folder / "repository", Settings(model=str(model)), "cpu")
    server = Triton(folder, folder / "repository", model.name)

    def kill(_system: System, _luck: random.Random) -> None:
        server.kill()
        server.restart()

    more = {"MATTING_DEVICE": "triton", "MATTING_TRITON_URL": server.url}
    try:
        with System(scratch / "triton", model, seed=asked.seed, more=more) as system:
            keys = put_photos(system, asked.images)
            return _try(system, Fault(TRITON, kill, deaths=0), keys, asked.injections, luck)
    finally:
        server.stop()


def _clips(system: System, scratch: Path, injections: int, luck: random.Random) -> bool:
    """Kill workers while clips are cut out, each at most twice."""
    key = put_film(system, scratch, CLIP_FRAMES)
    trials: list[Trial] = []
    while (left := injections - sum(trial.injections for trial in trials)) > 0:
        most = min(2, left)
        trials.append(kill_workers_while_a_clip_is_cut_out(system, key, CLIP_FRAMES, most, luck))
    return _tell(trials)


def _try(
    system: System, fault: Fault, keys: list[str], injections: int, luck: random.Random
) -> bool:
    """Run jobs until the fault was injected often enough. Returns its row of the table."""
    trials: list[Trial] = []
    while (left := injections - sum(trial.injections for trial in trials)) > 0:
        trials.append(run_trial(system, fault, keys, injections=left, luck=luck))
    return _tell(trials)


def _tell(trials: list[Trial]) -> bool:
    """Print the row of a fault. Returns whether the promise held."""
    found = [trial.finding for trial in trials]
    recovery = sorted(one for trial in trials for one in trial.recovery_s)
    row = {
        "fault": trials[0].fault,
        "injected": sum(trial.injections for trial in trials),
        "items": sum(one.items for one in found),
        "lost": sum(one.lost for one in found),
        "twice": sum(one.twice for one in found),
        "drift": sum(one.drift for one in found),
        "failed": sum(one.failed for one in found),
        "again": sum(one.again for one in found),
        "deaths": sum(one.deaths for one in found),
        "recovery_s": round(recovery[len(recovery) // 2], 1) if recovery else None,
        "worst_s": round(recovery[-1], 1) if recovery else None,
    }
    print(TABLE.format(*(str(cell) for cell in row.values())), flush=True)
    print(json.dumps({**row, "seconds": round(sum(t.seconds for t in trials))}), flush=True)
    return all(one.clean for one in found)


if __name__ == "__main__":
    main()
