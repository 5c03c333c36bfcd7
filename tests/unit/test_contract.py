"""Public names agree with the code: settings, commands, routes, processes."""

import re
import tomllib
from pathlib import Path

import pytest
import typer

from api.app import create_app
from deploy.cli import app as cli
from shared.queue import QUEUE, TASK
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]

OF_THE_COMMAND = {"MATTING_API_URL", "MATTING_API_KEY"}
"""Variables that only the command line reads: where another machine's API is."""

COMMANDS = {
    "demo", "up", "submit", "status", "watch", "cancel", "retry", "download", "cutout", "doctor",
    "keys", "contact-sheet", "models",
}  # fmt: skip


def known_variables() -> set[str]:
    return {f"MATTING_{name}".upper() for name in Settings.model_fields}


@pytest.mark.parametrize(
    "name",
    [
        "docker-compose.yml",
        ".env.example",
        "deploy/compose/managed.yml",
        "deploy/compose/worker.yml",
        "deploy/docker/Dockerfile",
        "deploy/docker/Dockerfile.gpu",
        "deploy/docker/Dockerfile.triton",
        "deploy/docker/README.md",
        *PAGES,
    ],
)
def test_every_variable_that_is_named_is_a_setting(name: str) -> None:
    text = (ROOT / name).read_text()
    # `MATTING_REVIEW_` is the prefix of several settings, not a setting.
    named = set(re.findall(r"\bMATTING_[A-Z0-9_]*[A-Z0-9]\b", text)) - OF_THE_COMMAND
    assert named <= known_variables()


def test_a_newcomer_reads_the_readme_in_five_minutes() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 160, "what is longer belongs into docs/"


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for room in ("api", "deploy", "shared", "worker"):
        files += [*(ROOT / room).rglob("*.py"), *(ROOT / room).rglob("*.md")]
    named = {
        (name, str(file.relative_to(ROOT)))
        for file in files
        for name in re.findall(r"matting\[([a-z]+)\]", file.read_text())
    }
    assert named
    assert {one for one in named if one[0] not in project["optional-dependencies"]} == set()


def test_the_commands_of_the_contract_are_there() -> None:
    group = typer.main.get_command(cli)
    assert set(group.commands) >= COMMANDS  # type: ignore[attr-defined]  # a Click group


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_only_commands_that_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    group = typer.main.get_command(cli)
    named = set(re.findall(r"(?:^\s*|[`/])matting ([a-z]+(?:-[a-z]+)*)\b", text, re.MULTILINE))
    assert named <= set(group.commands), named  # type: ignore[attr-defined]
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^\s*|`)make ([a-z]+(?:-[a-z]+)*)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_routes_of_the_contract_are_documented() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    for path in (
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/items",
        "/v1/jobs/{job_id}/cancel",
        "/v1/jobs/{job_id}/retry",
        "/v1/uploads",
        "/v1/items/{item_id}/result",
        "/v1/items/{item_id}/outputs/{index}",
        "/v1/items/{item_id}/source",
        "/v1/items/{item_id}/review",
        "/v1/presets",
        "/v1.0/removebg",
        "/v1.0/account",
        "/v1/webhooks",
        "/v1/webhooks/{webhook_id}/rotate",
        "/v1/deliveries",
        "/v1/deliveries/{delivery_id}/redeliver",
        "/healthz",
        "/readyz",
        "/metrics",
    ):
        assert path in paths, path
    assert set(paths["/v1/jobs"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
    }


def test_the_queue_and_the_task_keep_their_names() -> None:
    assert (QUEUE, TASK) == ("matting", "matting.remove_background")


def test_the_threat_model_names_modules_and_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    table = text.partition("## What is defended")[2].partition("## What is not")[0]
    rows = [row.strip("|").split(" | ") for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    for against, _how, where, shown in rows:
        for name in f"{where}, {shown}".strip(" |").split(", "):
            assert (ROOT / name).exists(), f"{against}: {name}"
        assert "tests/" in shown, against
    named = set(re.findall(r"MATTING_[A-Z_]+", text))
    assert named <= known_variables()


def test_start_commands_written_for_the_former_name_still_work() -> None:
    from api.connections import Patience
    from api.http.connections import HeaderTimeoutProtocol

    assert Patience is HeaderTimeoutProtocol


def test_every_model_and_operation_has_one_name() -> None:
    document = create_app(Settings()).openapi()
    schemas = document["components"]["schemas"]
    assert not [name for name in schemas if "-" in name or "__" in name]
    titles = [schema.get("title", name) for name, schema in schemas.items()]
    assert len(titles) == len(set(titles))
    operations = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(operations) == len(set(operations))
