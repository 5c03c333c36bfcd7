"""Audit of the pinned packages for known vulnerabilities, with pip-audit.

Run it with `python -m deploy.maintenance.audit`. The exit status is 1 if vulnerabilities are known,
else 0. If the index has no vulnerability data, the build continues with a warning.
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
"""A package with dozens of known vulnerabilities, audited together with the pins. If the index
reports none for it, the index has no data, and its result for the pins means nothing."""
TIMEOUT_S = 300


def run_pip_audit() -> dict[str, Any]:
    """Run pip-audit on the pins; returns its JSON report, or an empty one if it fails."""
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
    """The exit status and the lines to print for a report."""
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
    lines = [
        *found,
        f"{len(asked)} of {len(packages)} packages audited, {len(found)} vulnerabilities",
    ]
    if len(asked) < len(packages) or not packages:
        # GitHub shows lines with this prefix as warnings at the top of the run.
        lines.append("::warning::some packages were not audited: the index did not answer for them")
    elif not knows:
        lines.append("::warning::nothing was audited: the index has no vulnerability data")
    return int(bool(found)), lines


def main() -> None:
    """Run the audit (`make audit`)."""
    status, lines = verdict(run_pip_audit())
    print("\n".join(lines))  # noqa: T201 - a command
    sys.exit(status)


if __name__ == "__main__":
    main()
