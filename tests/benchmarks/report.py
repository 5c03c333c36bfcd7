"""Prints the last line of every benchmark: one JSON object with the result and the
machine's state.
"""

import json
import os
from typing import Any


def report(
    name: str, value: float, *, target: str | None, unit: str, details: dict[str, Any]
) -> None:
    """Print the line.

    `target` is the limit that an issue or the README asks for (`<= 10`), or none. The load average
    shows how busy the machine was with other work.
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
