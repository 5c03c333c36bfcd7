"""Which local files a person means by a file or folder, and what each is called in a job."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""What is picked out of a folder; a file that is named itself is taken whatever it is called."""

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class LocalPhotos:
    """Files to submit, with their names, and how many others the folders held."""

    files: list[tuple[Path, str]]
    skipped: int


def find_photos(paths: Sequence[Path]) -> LocalPhotos:
    """Every photo under the paths, folders with all below them, sorted.

    Names are paths below the folder; with several folders, the folder's own name comes before.
    Raises FileNotFoundError for a path that is not there.
    """
    files: list[tuple[Path, str]] = []
    skipped = 0
    for path in paths:
        if path.is_file():
            files.append((path, path.name))
            continue
        if not path.is_dir():
            raise FileNotFoundError(f"There is no file or folder {path}")
        base = path.parent if len(paths) > 1 and path.name else path
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            if any(part.startswith(".") for part in file.relative_to(path).parts):
                continue
            if file.suffix.lower() in EXTENSIONS:
                files.append((file, file.relative_to(base).as_posix()))
            else:
                skipped += 1
    return LocalPhotos(files, skipped)
