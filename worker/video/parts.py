"""Parts of a clip: the encoded outputs of a range of its frames, without sound.

Any worker makes a part, and the join only copies what is in it. A part is a folder with one file
for each output, and `part.zip`: what is known of the frames, and the small pictures.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from shared.jobs import Reason
from shared.options import Options
from worker.imaging.arrays import Image
from worker.video.framing import SteadyFrame
from worker.video.previews import Previews

INDEX = "part.zip"
FACTS = "part.json"

FORMAT = 1
"""Counts up when parts of earlier versions can't be joined with those of this one."""

Signs = tuple[int, tuple[Reason, ...] | None, float]
"""Number of a frame, its signs of trouble (None: not measured), and how unsteady its matte is."""


@dataclass(frozen=True, slots=True)
class Part:
    """The outputs of a range of frames."""

    folder: Path
    first: int
    frames: int
    """Number of frames; fewer than asked for where the clip is damaged."""
    files: tuple[str, ...]
    """Names of the files in the folder, one for each output; none if there are no frames."""
    sizes: tuple[tuple[int, int], ...]
    """Width and height of each."""
    signs: tuple[Signs, ...]
    previews: Previews

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.folder / name for name in self.files]

    def write_index(self) -> Path:
        """Write what is not in the files, so that `read` finds it."""
        known = {
            "first": self.first,
            "frames": self.frames,
            "files": self.files,
            "sizes": self.sizes,
            "signs": self.signs,
        }
        index = self.folder / INDEX
        with zipfile.ZipFile(index, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(FACTS, json.dumps(known))
            for name, pixels in self.previews.pictures().items():
                archive.writestr(name, _png(pixels))
        return index

    @classmethod
    def read(cls, folder: Path, previews: Previews) -> "Part":
        """What `write_index` wrote. `previews`: empty ones of the clip."""
        with zipfile.ZipFile(folder / INDEX) as archive:
            known: dict[str, Any] = json.loads(archive.read(FACTS))
            names = [name for name in archive.namelist() if name != FACTS]
            previews.put({name: _pixels(archive.read(name)) for name in names})
        signs = (
            (number, None if reasons is None else tuple(map(Reason, reasons)), unsteady)
            for number, reasons, unsteady in known["signs"]
        )
        return cls(
            folder,
            known["first"],
            known["frames"],
            tuple(known["files"]),
            tuple((width, height) for width, height in known["sizes"]),
            tuple(signs),
            previews,
        )


def file_names(folder: Path) -> list[str]:
    """The names of a part's files, from its index."""
    with zipfile.ZipFile(folder / INDEX) as archive:
        names: list[str] = json.loads(archive.read(FACTS))["files"]
        return names


def fingerprint(options: Options, steady: SteadyFrame | None, pictures: Mapping[str, Image]) -> str:
    """A hash of all that parts of one clip must have in common: they are joined only then."""
    import av

    known = {
        "format": FORMAT,
        "version": version("matting"),
        "ffmpeg": [av.__version__, av.library_versions["libavcodec"]],
        "options": options.model_dump(mode="json"),
        "steady": None if steady is None else asdict(steady),
        "pictures": {url: zlib.crc32(pixels.tobytes()) for url, pixels in sorted(pictures.items())},
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def _png(pixels: Image) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _pixels(data: bytes) -> Image:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        pixels: Image = np.asarray(picture)
        return pixels
