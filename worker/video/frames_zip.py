"""A zip of one PNG for each frame of a clip, and the times of all."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from shared.rendition import Format, Rendition
from worker.imaging.arrays import Image
from worker.imaging.encoding import encode
from worker.video.facts import ClipFacts

INDEX = "frames.json"


class FramesZip:
    """Writes such a file, frame by frame, or from files that hold the frames in parts."""

    def __init__(self, facts: ClipFacts, size: tuple[int, int], target: Path) -> None:
        self._facts, self.size = facts, size
        self._zip = zipfile.ZipFile(target, "w", zipfile.ZIP_STORED)
        self._written: list[dict[str, Any]] = []

    def write(self, pixels: Image, number: int) -> None:
        """Write a frame."""
        name = f"{number + 1:06d}.png"
        data = encode(pixels, Rendition.model_construct(format=Format.PNG))
        self._zip.writestr(zipfile.ZipInfo(name), data)
        start, end = self._facts.time_s(number), self._facts.time_s(number + 1)
        shown = {"file": name, "time_s": round(start, 9), "duration_s": round(end - start, 9)}
        self._written.append(shown)

    def add(self, part: Path, _frames: int) -> None:
        """Write the frames of a file that this class wrote."""
        with zipfile.ZipFile(part) as archive:
            shown = json.loads(archive.read(INDEX))["frames"]
            for one in shown:
                info = zipfile.ZipInfo(one["file"])
                info.file_size = archive.getinfo(one["file"]).file_size
                with archive.open(one["file"]) as source, self._zip.open(info, "w") as target:
                    shutil.copyfileobj(source, target)
        self._written += shown

    def close(self) -> None:
        """Complete the file."""
        text = json.dumps({"frames": self._written}, indent=1)
        self._zip.writestr(zipfile.ZipInfo(INDEX), text)
        self._zip.close()

    def abandon(self) -> None:
        """Close the file, which stays incomplete."""
        self._zip.close()
