"""The release workflow: what it needs agrees with the repository, and a linter finds nothing."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github" / "workflows" / "release.yml").read_text()
JOBS: dict[str, Any] = yaml.safe_load(TEXT)["jobs"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_nothing_is_published_before_everything_passed() -> None:
    assert JOBS["images"]["needs"] == JOBS["wheel"]["needs"] == "test"
    assert set(JOBS["publish"]["needs"]) == {"test", "wheel", "images"}
    assert any("bash .ci/run" in step.get("run", "") for step in JOBS["test"]["steps"])


def test_the_manifests_have_the_version_that_the_workflow_asks_for() -> None:
    for kind in ("cpu", "gpu", "triton"):
        text = (ROOT / "deploy" / "k8s" / kind / "kustomization.yaml").read_text()
        assert f"newTag: {VERSION}-{kind}" in text
        assert f"newTag: $version-{kind}" in TEXT


def test_all_images_are_built_signed_and_described() -> None:
    kinds = {
        one["kind"]: one["dockerfile"] for one in JOBS["images"]["strategy"]["matrix"]["include"]
    }
    assert set(kinds) == {"cpu", "gpu", "triton"}
    assert {Path(path) for path in kinds.values()} == {
        path.relative_to(ROOT) for path in (ROOT / "deploy" / "docker").glob("Dockerfile*")
    }
    [build] = [step for step in JOBS["images"]["steps"] if step.get("id") == "build"]
    assert (build["with"]["sbom"], build["with"]["provenance"]) == (True, "mode=max")
    assert "cosign sign --yes" in TEXT
    for at in re.findall(r"AT: (.*)", TEXT):
        assert "@${{ steps.build.outputs.digest }}" in at, "a tag may move"


def test_no_job_has_more_rights_than_it_needs() -> None:
    assert yaml.safe_load(TEXT)["permissions"] == {}
    rights = {name: job.get("permissions", {}) for name, job in JOBS.items()}
    writing = {name: {k for k, v in one.items() if v == "write"} for name, one in rights.items()}
    assert writing == {
        "test": set(),
        "wheel": {"id-token", "attestations"},
        "images": {"packages", "id-token"},
        "publish": {"contents"},
    }


@pytest.mark.skipif(
    not shutil.which("zizmor", path=str(Path(sys.executable).parent)),
    reason="make deploy-check installs it",
)
def test_a_linter_of_workflows_finds_nothing() -> None:
    zizmor = Path(sys.executable).parent / "zizmor"
    done = subprocess.run(
        [zizmor, "--offline", "--quiet", ROOT / ".github" / "workflows"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
