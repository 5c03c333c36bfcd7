"""Planning of downloads: the local path of each result, and which files are still missing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from api.client.file_names import output_names
from api.client.responses import Item


@dataclass(frozen=True, slots=True)
class Download:
    """The result files of one image and their local paths."""

    item: Item
    paths: tuple[Path, ...]
    """Local paths, the main result first."""

    @property
    def main(self) -> Path:
        """The local path of the main result."""
        return self.paths[0]

    def missing(self) -> Iterator[tuple[str, Path]]:
        """Address and local path of each file that is missing or incomplete."""
        sources = [
            (self.item["result"], self.item["output_bytes"]),
            *((output["url"], output["bytes"]) for output in self.item["outputs"][1:]),
        ]
        for (url, size), path in zip(sources, self.paths, strict=True):
            assert url is not None, "a succeeded image has a result"
            if not (path.exists() and path.stat().st_size == size):
                yield url, path


def plan_downloads(items: Sequence[Item], folder: Path) -> list[Download]:
    """The downloads for a job's succeeded images. All local paths are distinct."""
    return [
        Download(item, tuple(_safe_join(folder, name) for name in names))
        for item, names in zip(items, output_names(items), strict=True)
        if item["status"] == "succeeded"
    ]


def _safe_join(folder: Path, name: str) -> Path:
    """Join a name to the folder. The result never leaves the folder, whatever the name is."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return folder.joinpath(*(part for part in parts if part not in ("/", "//", "..")))
