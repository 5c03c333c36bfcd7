"""The Makefile of whoever starts on a bare machine: odd folders, and an installation cut short."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """#!/bin/sh
# In the place of Python: `-m venv FOLDER` makes its two programs.
for program in python pip; do
  printf '#!/bin/sh\\n' > "$3/bin/$program"
  chmod +x "$3/bin/$program"
done
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with an environment that somebody stopped before pip was in it."""
    for name in ("Makefile", "pyproject.toml", "deploy/constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for path, text in (
        (programs / "matting", '#!/bin/sh\nprintf "<%s>" "$@"\n'),
        (programs / "python", "#!/bin/sh\necho No module named pip >&2; exit 1\n"),
        (tmp_path / "python", PYTHON),
    ):
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def make(clone: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        ["make", *arguments], cwd=clone, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_an_environment_without_pip_is_completed(clone: Path) -> None:
    status, said = make(clone, "demo", f"PYTHON={clone / 'python'}")
    assert status == 0, said
    assert (clone / ".venv" / ".runtime").exists()


def test_without_python_it_says_what_to_install(clone: Path) -> None:
    status, said = make(clone, "demo", "PYTHON=no-such-python")
    assert status != 0
    assert "python3.11-venv" in said


def test_folders_may_have_blanks_in_their_names(clone: Path) -> None:
    (clone / ".venv" / ".runtime").touch()
    assert (
        "<demo><my photos><--out><cut outs>"
        in make(clone, "demo", "PHOTOS=my photos", "OUT=cut outs")[1]
    )
    assert "<demo><--out><out>" in make(clone, "demo")[1]


def test_clean_leaves_results(clone: Path) -> None:
    result = clone / "out" / "shoe.png"
    result.parent.mkdir()
    result.touch()
    assert make(clone, "clean")[0] == 0
    assert result.exists()
    assert not (clone / ".venv").exists()
