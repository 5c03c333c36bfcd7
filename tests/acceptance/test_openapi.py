"""The running service against its own OpenAPI description: no 5xx, no undocumented answer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deploy.stack.stack import Stack

REQUESTS = Path(__file__).with_name("openapi_requests.py")


@pytest.mark.timeout(1_800)
def test_every_answer_is_documented(stack: Stack, http: httpx.Client, tmp_path: Path) -> None:
    # A key of its own: its jobs and watches use up no other test's limits.
    wanted = {"name": "description", "scopes": ["admin"]}
    key = http.post("/v1/keys", json=wanted).json()["key"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    service = {"SERVICE_URL": stack.address.api_url, "SERVICE_KEY": key}
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'run'}", str(REQUESTS)],
        cwd=Path(__file__).parents[2],
        env=own | service,
        capture_output=True,
        text=True,
        timeout=1_500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) > 50, "each operation"
