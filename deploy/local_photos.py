"""Finding local photos: files and folders become a list of photo files with names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Extensions of the photos that are picked from a folder. A file given by name is always taken."""

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class LocalPhotos:
    """Photo files with their names in the job, and the number of skipped files."""

    files: list[tuple[Path, str]]
    skipped: int


def find_photos(paths: Sequence[Path]) -> LocalPhotos:
    """Find all photos under the paths, recursively and sorted. Hidden files are ignored.

    A photo's name is its path relative to the folder; with several paths, it starts with the
    folder's name. Raises FileNotFoundError for a missing path.
    """
    files: list[tuple[Path, str]] = []
    skipped = 0
    for path in paths:
        if path.is_file():
            files.append((path, path.name))
            continue
        if not path.is_dir():
            raise FileNotFoundError(f"{path} does not exist")
        base = path.parent if len(paths) > 1 and path.name else path
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            if any(part.startswith(".") for part in file.relative_to(path).parts):
                continue
            if file.suffix.lower() in EXTENSIONS:
                files.append((file, file.relative_to(base).as_posix()))
            else:
                skipped += 1
    return LocalPhotos(files, skipped)
