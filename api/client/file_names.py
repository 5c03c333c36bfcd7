"""File names of downloaded results. No name is used twice."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from api.client.responses import NamedItem

_REFUSED_SIGNS = re.compile(r'[<>:"|?*\x00-\x1f]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
"""Signs and names that Windows has in no file's name, nor have its network drives and USB sticks
(Microsoft, Naming Files, Paths, and Namespaces)."""


def result_names(items: Sequence[NamedItem]) -> list[str]:
    """A unique file name for each item's main result, `a/b.jpg` → `a/b.png`.

    Items whose names differ only in the extension (`x.jpg`, `x.png`) keep it: `x.jpg.png`,
    `x.png.png`.
    """
    short = [str(PurePosixPath(item["name"]).with_suffix("")) for item in items]
    count = Counter(_folded(name) for name in short)
    names: list[str] = []
    used: set[str] = set()
    for item, stem in zip(items, short, strict=True):
        suffix = "." + item["result_format"]
        name = stem if count[_folded(stem)] == 1 else item["name"]
        candidate, number = name + suffix, 1
        while _folded(candidate) in used:
            number += 1
            candidate = f"{name}-{number}{suffix}"
        used.add(_folded(candidate))
        names.append(candidate)
    return names


def _folded(name: str) -> str:
    """What names have in common that are one name on some file system: macOS and Windows ignore
    case, and macOS ignores how letters with accents are composed.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def output_names(items: Sequence[NamedItem]) -> list[list[str]]:
    """Unique file names for all files of each item.

    The main file is named as by `result_names`. Files with a name template keep the template's
    name, with a number added where two names are equal. Every system can write the names.
    """
    mains = result_names(items)
    used: set[str] = set()
    names: list[list[str]] = []
    for item, main in zip(items, mains, strict=True):
        default = f"{PurePosixPath(item['name']).with_suffix('')}.{item['result_format']}"
        given = [output["name"] for output in item["outputs"]]
        wanted = [main if not given or given[0] == default else given[0], *given[1:]]
        mine: list[str] = []
        for name in map(_portable, wanted):
            path, number = PurePosixPath(name), 1
            candidate = name
            while _folded(candidate) in used:
                number += 1
                candidate = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
            used.add(_folded(candidate))
            mine.append(candidate)
        names.append(mine)
    return names


def _portable(name: str) -> str:
    """A path whose parts Windows takes, too: `a:b.png` becomes `a_b.png`."""
    return "/".join(_portable_part(part) for part in name.split("/"))


def _portable_part(part: str) -> str:
    ends = part.rstrip(". ")
    if not ends:  # no name at all: `downloading` decides
        return part
    safe = _REFUSED_SIGNS.sub("_", ends + "_" * (len(part) - len(ends)))
    return f"_{safe}" if _DEVICES.match(safe) else safe
