"""Carries out a Dockerfile's install steps in a folder and an environment of their own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SLIM_HAS = re.compile(
    r"(linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|resolv|util|gcc_s|stdc\+\+|z)\.so)",
)
"""Libraries of python:3.11-slim that the wheels may need."""


OURS = re.compile(r'(python3? |pip |"\$\(uv python find )(?!.*\.org\.cn)')
"""Matches commands that need neither the base image nor a vendor's package index."""


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile, with continued lines joined."""

    name: str
    text: str


@dataclass(frozen=True)
class Image:
    """The result that replaces a built image."""

    venv: Path
    """The environment that replaces /opt/venv."""
    env: dict[str, str]
    """The variables that its ENV instructions set."""
    left_out: list[str]
    """Skipped commands. They need the base image: the system's packages, users, Paddle's
    own index.
    """


def build(path: Path, root: Path, work: Path) -> Image:
    """Carry out the COPY and Python install instructions of a Dockerfile below `work`."""
    source, base = work / "src", work / "base"
    source.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", str(base)], check=True)
    image = Image(work / "venv", {}, [])
    for step in _steps(path):
        if step.name == "COPY" and not step.text.startswith("--from"):
            _copy(root, source, step.text)
        elif step.name == "ENV":
            image.env.update(_assignments(step.text))
        elif step.name == "RUN":
            for command in re.split(r"\s+&&\s+", step.text):
                if OURS.match(command):
                    _run(command, source, image.venv, base)
                else:
                    image.left_out.append(command)
    return image


def run_in(image: Image, work: Path, command: Sequence[str], cwd: Path) -> None:
    """Run another command the way RUN would."""
    _run(" ".join(command), cwd, image.venv, work / "base")


def megabytes(folder: Path) -> int:
    """The size of a folder in MB (10⁶ bytes)."""
    return round(sum(path.lstat().st_size for path in files(folder)) / 1e6)


def files(folder: Path) -> Iterator[Path]:
    """All files below a folder."""
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def foreign_libraries(venv: Path) -> set[str]:
    """Shared libraries that the wheels need and that neither the wheels nor a slim image
    contain.
    """
    found: set[str] = set()
    own = {path.name for path in venv.rglob("*.so*")}
    for path in venv.rglob("*.so*"):
        done = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
        lines = (line.split() for line in done.stdout.splitlines() if ".so" in line)
        names = {words[0].rsplit("/", 1)[-1] for words in lines}
        found |= {name for name in names - own if not SLIM_HAS.match(name)}
    return found


def _steps(path: Path) -> list[Step]:
    kept = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(kept))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line]


def _assignments(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split())


def _copy(root: Path, target: Path, text: str) -> None:
    *sources, where = text.split()
    for name in sources:
        if (root / name).is_dir():
            # .dockerignore excludes the same files.
            left = shutil.ignore_patterns("__pycache__", "k8s")
            shutil.copytree(root / name, target / where, ignore=left)
        else:
            shutil.copy(root / name, target)


def _run(command: str, cwd: Path, venv: Path, base: Path) -> None:
    command = command.replace("/opt/venv", str(venv))
    path = f"{venv}/bin:{base}/bin:/usr/local/bin:/usr/bin:/bin"
    env = {"PATH": path, "HOME": os.environ["HOME"], "VIRTUAL_ENV": str(venv)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=cwd,
        env=env | {name: os.environ[name] for name in os.environ if name.startswith("PIP_")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{command}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
