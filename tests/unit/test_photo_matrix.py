"""Every accepted kind of file looks as independent readers see it."""

import numpy as np
import pytest

from shared.settings import Settings
from tests import photo_matrix
from worker.imaging.decoding import decode

SETTINGS = Settings()

LEVELS = 2
"""Most difference of a channel."""

SOURCES = ("pngs", "jpegs", "webps", "tiffs", "bmps", "phones", "psds")


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_file_looks_as_other_readers_see_it(source: str) -> None:
    differences: dict[str, float] = {}
    for sample in getattr(photo_matrix, source)():
        decoded = decode(sample.data, SETTINGS)
        height, width = decoded.image.shape[:2]
        assert (decoded.height, decoded.width) == (height, width), sample.name
        assert decoded.image.shape == (*sample.seen.shape[:2], 3), sample.name
        alpha = np.full((height, width), 255) if decoded.alpha is None else decoded.alpha
        share = sample.seen[..., 3:] / 255
        seen = sample.seen[..., :3] * share + 255 * (1 - share)
        colours = np.abs(decoded.image - seen).max()
        differences[sample.name] = float(
            max(colours, np.abs(alpha.astype(int) - sample.seen[..., 3]).max())
        )
    assert {name: most for name, most in differences.items() if most > LEVELS} == {}
    print(f"{source}: {len(differences)} files, {max(differences.values()):.2f} levels at most")
