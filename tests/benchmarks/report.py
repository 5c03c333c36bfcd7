"""What every benchmark prints last: one JSON object, with the state of the machine beside it."""

import json
import os
from typing import Any


def report(
    name: str, value: float, *, target: str | None, unit: str, details: dict[str, Any]
) -> None:
    """Print the line. `target` is what issue and README ask for (`<= 10`), none where nothing is
    asked. The load shows how much of the machine others had.
    """
    line = {
        "name": name,
        "value": round(value, 4),
        "target": target,
        "unit": unit,
        "cores": len(os.sched_getaffinity(0)),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        **details,
    }
    print(json.dumps(line))
