"""Results on their way into a folder: which file goes where, and which are there already."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from api.client.answers import Item
from api.client.names import output_names


@dataclass(frozen=True, slots=True)
class Download:
    """All files of one image."""

    item: Item
    paths: tuple[Path, ...]
    """The main one first."""

    @property
    def main(self) -> Path:
        """Where the main result goes."""
        return self.paths[0]

    def missing(self) -> Iterator[tuple[str, Path]]:
        """Address and path of each file that is not there in full."""
        sources = [
            (self.item["result"], self.item["output_bytes"]),
            *((output["url"], output["bytes"]) for output in self.item["outputs"][1:]),
        ]
        for (url, size), path in zip(sources, self.paths, strict=True):
            assert url is not None, "a succeeded image has a result"
            if not (path.exists() and path.stat().st_size == size):
                yield url, path


def downloads(items: Sequence[Item], folder: Path) -> list[Download]:
    """What there is to fetch of a job's images, under names that never meet."""
    return [
        Download(item, tuple(_below(folder, name) for name in names))
        for item, names in zip(items, output_names(items), strict=True)
        if item["status"] == "succeeded"
    ]


def _below(folder: Path, name: str) -> Path:
    """A path within the folder, whatever a service calls its files."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return folder.joinpath(*(part for part in parts if part not in ("/", "//", "..")))
