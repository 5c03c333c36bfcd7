"""The first model's matte on its way to the worker that serves the second model, as a PNG file."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from shared.jobs import Reason, known_reasons
from worker.imaging.arrays import Alpha, Image
from worker.imaging.prepared import PreparedImage
from worker.imaging.resample import shrink


@dataclass(frozen=True, slots=True)
class Handover:
    """The first model's result of a photo."""

    alpha: Alpha
    """At the network's size, without padding."""
    model: str
    reasons: tuple[Reason, ...]
    fit: float
    """The share of the points of the option `subject` that it agrees with."""


def write_handover(alpha: Alpha, model: str, reasons: Sequence[Reason], fit: float = 1) -> bytes:
    """The file of an alpha [h, w] float32 in 0..1, at 8 bits."""
    said = PngImagePlugin.PngInfo()
    said.add_text("model", model)
    said.add_text("reasons", " ".join(reasons))
    said.add_text("fit", f"{fit:.6f}")
    file = io.BytesIO()
    pixels = np.rint(alpha * 255).astype(np.uint8)
    PillowImage.fromarray(pixels).save(file, "png", pnginfo=said)
    return file.getvalue()


def read_handover(data: bytes) -> Handover:
    """What `write_handover` wrote. Raises OSError or ValueError for anything else."""
    with PillowImage.open(io.BytesIO(data), formats=["png"]) as file:
        alpha = np.asarray(file.convert("L"), np.float32) / np.float32(255)
        text = {name: str(value) for name, value in file.info.items() if isinstance(name, str)}
    reasons = known_reasons(text.get("reasons", "").split())
    return Handover(alpha, text.get("model", ""), reasons, float(text.get("fit", 1)))


def prepared_as(alpha: Alpha, image: Image) -> PreparedImage:
    """A photo [H, W, 3] uint8 RGB as an input of the alpha's size, to measure the alpha by."""
    seen = shrink(image, (alpha.shape[0], alpha.shape[1]))
    return PreparedImage(seen, (("resize", (image.shape[0], image.shape[1])),))
