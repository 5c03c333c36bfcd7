"""The reference page of all settings, from `shared.settings.Settings`."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deploy.maintenance.reference.markdown import code, page, table
from shared.settings import Settings

INTRODUCTION = """\
Settings are environment variables; a process reads them once, when it starts. A file `.env` in its
folder is read too, and the environment takes precedence. An empty variable is not set. A variable
that begins with `MATTING_` and is not listed here stops the start; the message names the nearest
setting.

Docker Compose passes every line of `.env` to API, workers and migration. On Kubernetes, settings
are lines of `deploy/k8s/base/settings.env`, or of your own file that you merge into it. An empty
default means: not set."""

UNITS = {
    "_ms": "ms",
    "_bytes_per_s": "B/s",
    "_s": "s",
    "_days": "days",
    "_bytes": "bytes",
    "_mb": "MB",
    "_px": "pixels",
    "_pixels": "pixels",
    "_share": "share, 0 to 1",
    "_per_min": "per minute",
}
"""The unit of a setting, by the suffix of its name."""

BINARY = ("", "KiB", "MiB", "GiB")


def settings_page() -> str:
    """A table for each section of the class, in its order."""
    parts = []
    for title, names in _sections():
        rows = [_row(name, Settings.model_fields[name]) for name in names]
        parts += [f"## {title}", table(["variable", "default", "unit", "allowed", "meaning"], rows)]
    return page("Settings", INTRODUCTION, *parts)


def _sections() -> Iterator[tuple[str, list[str]]]:
    """The sections of the class. A comment after an empty line starts a section."""
    title = before = "General"
    names: list[str] = []
    for line in inspect.getsource(Settings).splitlines():
        if not before and (comment := re.fullmatch(r"    # (.+)", line)):
            if names:
                yield title, names
            title, names = re.split(r"[.:]", comment[1])[0], []
        elif (field := re.match(r"    (\w+):", line)) and field[1] in Settings.model_fields:
            names.append(field[1])
        before = line
    yield title, names


def _row(name: str, field: FieldInfo) -> list[str]:
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    variable = f"MATTING_{name.upper()}"
    if isinstance(field.validation_alias, AliasChoices):
        variable = str(field.validation_alias.choices[0])
    return [code(variable), _default(field, unit), unit, _allowed(field), field.description or ""]


def _default(field: FieldInfo, unit: str) -> str:
    """The default value; bytes also in KiB, MiB or GiB."""
    if field.default is PydanticUndefined:
        return str(getattr(field.default_factory, "__name__", "")).strip("_").replace("_", " ")
    default: Any = field.default
    if default is None or default == "":
        return ""
    if isinstance(default, bool):
        return code(json.dumps(default))
    if isinstance(default, tuple):
        return code(", ".join(f"{one:g}" for one in default))
    if unit == "bytes":
        size, step = default, 0
        while size % 1024 == 0 and step < len(BINARY) - 1:
            size, step = size // 1024, step + 1
        return f"{code(default)} ({size} {BINARY[step]})" if step else code(default)
    return code(default)


def _allowed(field: FieldInfo) -> str:
    """The allowed values or the limits."""
    if choices := [one for one in get_args(field.annotation) if isinstance(one, str)]:
        return ", ".join(map(code, choices))
    if field.annotation is bool:
        return "`true`, `false`"
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = []
    for limit in field.metadata:
        for name, sign in signs.items():
            if getattr(limit, name, None) is not None:
                found.append(f"{sign} {getattr(limit, name):,}")
        if pattern := getattr(limit, "pattern", None):
            found.append(code(pattern))
    return ", ".join(found)
