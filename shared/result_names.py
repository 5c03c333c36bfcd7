"""File names of results, made from a template and the photo's name."""

import re
from pathlib import PurePosixPath

FIELDS = frozenset({"path", "stem", "folder", "ext", "width", "height"})
"""`path` is folder and stem; `ext` is the extension of the result; width and height are in pixels.
"""


def check_template(template: str) -> None:
    """Raise ValueError for unknown fields, and for paths that leave the job's folder."""
    named = set(re.findall(r"\{([^{}]*)\}", template))
    if not named <= FIELDS or set("{}") & set(re.sub(r"\{[^{}]*\}", "", template)):
        raise ValueError(f"`name` may hold {', '.join(sorted(FIELDS))} in braces")
    segments = template.split("/")
    if template.startswith("/") or {".", ".."} & set(segments) or "\\" in template:
        raise ValueError(
            "`name` must be a path below the job's folder, without a leading / and without .."
        )
    if any(ord(char) < 32 for char in template):
        raise ValueError("`name` contains a control character")


def file_name(template: str | None, photo: str, extension: str, width: int, height: int) -> str:
    """The file name of a result. `photo`: the photo's relative path. Template None means
    `{path}.{ext}`.
    """
    path = PurePosixPath(photo)
    folder = "" if str(path.parent) == "." else str(path.parent)
    name = (template or "{path}.{ext}").format(
        path=str(path.with_suffix("")) if path.name else "unnamed",
        stem=path.stem or "unnamed",
        folder=folder,
        ext=extension,
        width=width,
        height=height,
    )
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or f"unnamed.{extension}"
