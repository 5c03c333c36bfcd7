"""docs/architecture.md and docs/decisions name only things that exist, and the page names every
room.
"""

import importlib
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
ROOMS = ("api", "deploy", "shared", "worker")
NAME = re.compile(rf"(?:{'|'.join(ROOMS)}|tests)(?:\.\w+)+")
PAGES = [PAGE, *DECISIONS]
PARTS = ["Context", "Decision", "What was measured", "What would change our mind"]
"""Sections of every decision's page. A page may have more."""
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def quoted(page: Path) -> list[str]:
    """Everything in backticks outside of the drawings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def missing(names: Collection[str]) -> set[str]:
    """The dotted names that do not exist.

    A child process looks them up. Importing `worker.app` connects it to Celery's signals, and then
    every worker that a later test starts in the same process would open it.
    """
    command = [sys.executable, "-m", "tests.unit.test_architecture_page", *names]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert child.returncode == 0, child.stderr
    return set(child.stdout.split())


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of a module or a class."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_test_exists(page: Path) -> None:
    for one in quoted(page):
        if test := TEST.fullmatch(one):
            assert f"def {test[2]}(" in (ROOT / test[1]).read_text(), one
        elif re.match(rf"(?:{'|'.join(ROOMS)}|tests|docs)/", one):
            assert (ROOT / one).exists(), one


def test_every_name_exists() -> None:
    names = {one for page in PAGES for one in quoted(page) if NAME.fullmatch(one)}
    wrong = {"worker.nothing", "shared.queue.Nothing", "shared.queue.Message.nothing"}
    found = missing({one for one in names if not one.endswith((".md", ".py", ".yml"))} | wrong)
    assert found == wrong


def test_every_room_of_the_code_is_on_the_page() -> None:
    named = {one.rstrip("/") for one in quoted(PAGE)}
    rooms = {
        str(init.parent.relative_to(ROOT))
        for room in ROOMS
        for init in (ROOT / room).rglob("__init__.py")
    }
    left_out = {room for room in rooms - named if not room.endswith("migrations/versions")}
    assert not left_out, "docs/architecture.md has no row for these"


def test_the_page_names_enough_things() -> None:
    assert len([one for one in quoted(PAGE) if NAME.fullmatch(one)]) > 60
    assert len([one for one in quoted(PAGE) if TEST.fullmatch(one)]) > 25


def test_the_index_lists_each_decision_once_in_order() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index)
    assert listed == [page.name for page in DECISIONS if page.name != "README.md"]
    for number, name in enumerate(listed, 1):
        page = (ROOT / "docs" / "decisions" / name).read_text()
        headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
        assert name.startswith(f"{number:04d}-")
        assert [one for one in headings if one in PARTS] == PARTS, name


if __name__ == "__main__":
    print(*(name for name in sys.argv[1:] if not exists(name)))
