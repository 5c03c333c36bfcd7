"""A night of an autoscaled fleet, simulated: how many workers run when, and what they cost.

`python -m tests.benchmarks.night`. It reads the autoscaler's settings from deploy/k8s/keda and uses
the rules of Kubernetes' HorizontalPodAutoscaler (desired = ceil(metric / threshold), the policies,
the stabilisation windows) and of KEDA (activation, cool-down). Its times are those of CPU workers
with 4 cores (docs/capacity.md). No cluster runs.
"""

import json
import math
from pathlib import Path
from typing import Any

import yaml

KEDA = Path(__file__).parents[2] / "deploy" / "k8s" / "keda" / "worker.yaml"
STEP_S = 15
"""KEDA's pollingInterval and the autoscaler's own period."""
RATE = 40
"""Images per second of a CPU worker with 4 cores."""
START_S = 75
"""From the request for a pod to a warm worker: node there, image there, warm-up."""
ARRIVALS = {0: 200_000, 3 * 3600: 600, 4 * 3600: 600, 5 * 3600: 20_000}
"""Images by the second after 22:00 at which their job comes."""
NIGHT_S = 9 * 3600


def simulate(spec: dict[str, Any]) -> list[dict[str, int]]:
    """The state every `STEP_S`: second, waiting images, workers that run, workers wanted."""
    images, wait = (float(one["metadata"]["threshold"]) for one in spec["triggers"])
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    window_s = behaviour["stabilizationWindowSeconds"]
    [policy] = behaviour["policies"]
    starting: list[int] = []
    waiting, warm, idle_since, waited_s = 0, 0, 0, 0
    wishes: list[int] = []
    removed: list[tuple[int, int]] = []
    states = []
    for now in range(0, NIGHT_S, STEP_S):
        waiting += ARRIVALS.get(now, 0)
        warm += sum(1 for ready in starting if ready <= now)
        starting = [ready for ready in starting if ready > now]
        waiting = max(0, waiting - warm * RATE * STEP_S)
        waited_s = waited_s + STEP_S if waiting and not warm else 0
        pods = warm + len(starting)
        idle_since = now if waiting else idle_since
        wished = max(math.ceil(waiting / images), math.ceil(waited_s / wait), 1)
        wished = min(wished, spec["maxReplicaCount"])
        wishes = [*wishes, wished][-(window_s // STEP_S) :]
        if pods == 0:
            wanted = 1 if waiting else 0  # KEDA wakes the fleet with one
        elif wished > pods:
            wanted = min(wished, max(2 * pods, pods + 4))  # the autoscaler's own policies
        elif now - idle_since >= spec["cooldownPeriod"]:
            wanted = spec["minReplicaCount"]
        else:
            recent = sum(gone for at, gone in removed if now - at < policy["periodSeconds"])
            least = math.ceil((pods + recent) * (1 - policy["value"] / 100))
            wanted = min(pods, max(max(wishes), least))
        starting += [now + START_S] * max(0, wanted - pods)
        if wanted < pods:
            removed.append((now, pods - wanted))
            warm, starting = max(0, wanted - len(starting)), starting[:wanted]
        states.append({"s": now, "waiting": waiting, "workers": warm, "wanted": wanted})
    return states


def main() -> None:
    """Print a line for each change, and what the night cost."""
    states = simulate(yaml.safe_load(KEDA.read_text())["spec"])
    last: tuple[int, int] | None = None
    for state in states:
        if (state["workers"], state["wanted"]) != last:
            last = (state["workers"], state["wanted"])
            hours, minutes = divmod(22 * 60 + state["s"] // 60, 60)
            clock = f"{hours % 24:02d}:{minutes:02d}:{state['s'] % 60:02d}"
            print(
                f"{clock}  waiting {state['waiting']:7,}  workers {last[0]:2}  wanted {last[1]:2}"
            )
    worker_hours = sum(max(state["workers"], state["wanted"]) for state in states) * STEP_S / 3600
    done = next(state["s"] for state in states if state["s"] > 0 and not state["waiting"])
    print(
        json.dumps(
            {
                "first_job_done_s": done,
                "worker_hours": round(worker_hours, 1),
                "always_on_worker_hours": 20 * NIGHT_S // 3600,
                "most_workers": max(state["workers"] for state in states),
            }
        )
    )


if __name__ == "__main__":
    main()
