"""Clients that are generated from /openapi.json are complete, type-check, and work with the live
service.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from deploy.stack.stack import Stack
from shared.storage import Storage

SOURCES = Path(__file__).parents[1] / "generated_clients"
GENERATORS = Path(sys.executable).parent.parent / "generators"
"""The environment that `make test` gives the generators: their packages are not the product's."""


def installed(program: Path) -> Path:
    """Skip where the generators are not installed; in CI they must be."""
    if not program.exists() and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed: make test installs it")
    return program


def run(command: Sequence[str | Path], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def place(stack: Stack, bucket: Storage, tmp_path: Path, jpeg: bytes) -> Path:
    """A folder with the service's description and a photo, which the bucket has too."""
    answer = httpx.get(f"{stack.address.api_url}/openapi.json")
    (tmp_path / "openapi.json").write_bytes(answer.content)
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    bucket.put("walk.jpg", jpeg, "image/jpeg")
    return tmp_path


def test_a_python_client_is_generated_type_checked_and_used(stack: Stack, place: Path) -> None:
    generator = installed(GENERATORS / "bin" / "openapi-python-client")
    options = "--path openapi.json --meta none --output-path matting_api --fail-on-warning --config"
    config = SOURCES / "openapi-python-client.yaml"
    said = run([str(generator), "generate", *options.split(), str(config)], place)
    assert "Unable" not in said, said
    assert "removal" not in said, said
    shutil.copy(SOURCES / "walk.py", place)
    python = GENERATORS / "bin" / "python"
    check = ["--strict", "--config-file", "", "--cache-dir", str(place / "cache")]
    run([sys.executable, "-m", "mypy", *check, "--python-executable", python, "walk.py"], place)
    printed = run(
        [python, "walk.py", stack.address.api_url, stack.secrets.api_key, "photo.jpg"], place
    )
    result = json.loads(printed.splitlines()[-1])
    assert sorted(result["sizes"]) == ["attached.jpg", "walk.jpg"]
    assert min(result["sizes"].values()) > 500
    assert result["refused"] == "forbidden-source"


def test_a_typescript_client_is_generated_type_checked_and_used(stack: Stack, place: Path) -> None:
    modules = installed(GENERATORS / "node_modules")
    for name in ("walk.ts", "tsconfig.json", "package.json"):
        shutil.copy(SOURCES / name, place)
    (place / "node_modules").symlink_to(modules)
    generate = "node_modules/.bin/openapi-typescript --default-non-nullable=false openapi.json"
    run(["node", *generate.split(), "-o", "schema.d.ts"], place)
    run(["node", "node_modules/.bin/tsc", "--project", "."], place)
    command = ["node", "built/walk.js", stack.address.api_url, stack.secrets.api_key]
    result = json.loads(run(command, place).splitlines()[-1])
    assert list(result["sizes"]) == ["walk.jpg"]
    assert result["sizes"]["walk.jpg"] > 500
    assert result["refused"] == "forbidden-source"
