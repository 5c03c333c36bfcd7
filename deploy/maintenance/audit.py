"""Known weaknesses of the pinned packages, as pip-audit finds them.

Run by `python -m deploy.maintenance.audit`.

Ends with 1 when there are some, and with 0 when none is known, or when nothing could be asked, with
a warning: an index that knows of no weaknesses must not stop a build, nor pass for a clean one.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PINS = Path(__file__).parents[1] / "constraints.txt"

CANARY = "django==2.2"
"""Asked for beside the pins, of which it is none: dozens of its weaknesses are known. An index that
answers with none holds no weaknesses of anything, and its silence about the pins means nothing."""
TIMEOUT_S = 300


def ask() -> dict[str, Any]:
    """pip-audit's report on the pins; empty when it has none to give."""
    program = Path(sys.executable).parent / "pip-audit"
    command = [os.fspath(program), "--disable-pip", "--no-deps", "--progress-spinner=off"]
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as canary:
            canary.write(CANARY + "\n")
            canary.flush()
            done = subprocess.run(
                [*command, "--format=json", f"--requirement={PINS}", "-r", canary.name],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                check=False,
            )
        report: dict[str, Any] = json.loads(done.stdout or b"{}")
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return {}
    return report


def verdict(report: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit status, and what to say."""
    name, _, _ = CANARY.partition("==")
    packages = [one for one in report.get("dependencies", []) if one["name"] != name]
    knows = any(one.get("vulns") for one in report.get("dependencies", []) if one["name"] == name)
    asked = [one for one in packages if "skip_reason" not in one]
    found = [
        f"{one['name']} {one['version']}: {weakness['id']}"
        f" (fixed in {', '.join(weakness['fix_versions']) or 'no version yet'})"
        for one in asked
        for weakness in one["vulns"]
    ]
    lines = [*found, f"{len(asked)} of {len(packages)} packages looked up, {len(found)} weaknesses"]
    if len(asked) < len(packages) or not packages:
        # GitHub shows such a line at the top of the run; elsewhere it is one of the log.
        lines.append("::warning::not all packages were audited: the index did not answer for them")
    elif not knows:
        lines.append("::warning::nothing was audited: the index knows of no weakness at all")
    return int(bool(found)), lines


def main() -> None:
    """For make audit."""
    status, lines = verdict(ask())
    print("\n".join(lines))  # noqa: T201 - a command
    sys.exit(status)


if __name__ == "__main__":
    main()
