"""The README's picture can be made again."""

from pathlib import Path

import PIL.Image
import pytest

from deploy.maintenance import picture


def test_the_readme_picture_shows_a_photo_above_its_cut_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "pictures" / "before-after.jpg"
    monkeypatch.setattr(picture, "TARGET", target)
    monkeypatch.setattr(picture, "NAMES", ("mug",))
    picture.main()
    with PIL.Image.open(target) as made:
        assert made.width == picture.SIDE_PX + 6
        assert made.height > made.width
