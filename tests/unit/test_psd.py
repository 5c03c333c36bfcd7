"""Photoshop documents: another reader finds the layers, their masks and the merged picture."""

import io
import tracemalloc
from typing import Any

import cv2
import numpy as np
import PIL.Image
import psd_tools
import pytest
from pydantic import ValidationError

from shared.options import Options
from shared.rendition import Foreground
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage, decode
from worker.imaging.finishing import finish_matte
from worker.imaging.metadata import Metadata
from worker.imaging.psd_file import Layer, encode_psd
from worker.imaging.render import Subject, render

FRAMED = {"crop": True, "canvas": "500x401", "scale": 0.8, "shadow": "drop", "dpi": 300}


def photo() -> tuple[Image, Image]:
    """A noisy photo [301, 403, 3], and the soft matte of a disc."""
    noise = np.random.default_rng(1).integers(0, 256, (301, 403, 3), np.uint8)
    matte = np.zeros((301, 403), np.uint8)
    cv2.circle(matte, (200, 150), 90, 255, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(matte, (0, 0), 2).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3).astype(np.uint8), soft


def document(**options: Any) -> tuple[psd_tools.PSDImage, Image, Subject]:
    """What is written, what other formats would show, and the photo with its matte."""
    image, matte = photo()
    wanted = Options.model_validate({"format": "psd", **options})
    metadata = [Metadata(dpi=300.0 if wanted.dpi else None)]
    decoded = DecodedImage(image, image.shape[1], image.shape[0])
    [file] = finish_matte(decoded, matte, wanted, metadata=metadata)
    subject = Subject(image, matte)
    return psd_tools.PSDImage.open(io.BytesIO(file.data)), render(subject, wanted), subject


def on_white(pixels: Image) -> np.ndarray[Any, Any]:
    share = pixels[..., 3:].astype(float) / 255
    return pixels[..., :3] * share + 255 * (1 - share)


def samples(layer: Any) -> Image:
    values: Image = np.rint(layer.numpy() * 255).astype(np.uint8)
    return values


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["Photo", "Cut-out"]),
        ({"background": "#3060a0"}, ["Photo", "Background", "Cut-out"]),
        ({"shadow": "contact"}, ["Photo", "Shadow", "Cut-out"]),
        ({"background": "white", **FRAMED}, ["Photo", "Background", "Shadow", "Cut-out"]),
        (FRAMED, ["Photo", "Shadow", "Cut-out"]),
    ],
)
def test_a_document_shows_what_other_formats_show(
    options: dict[str, Any], names: list[str]
) -> None:
    found, expected, _ = document(**options)
    assert [(layer.name, layer.visible) for layer in found] == [
        (name, name != "Photo") for name in names
    ]
    assert {layer.size for layer in found} == {(expected.shape[1], expected.shape[0])}
    merged = np.asarray(found.topil())
    assert merged.shape == expected.shape
    if expected.shape[2] == 3:
        assert (merged == expected).all()
    else:
        assert (merged[..., 3] == expected[..., 3]).all()
        assert np.abs(on_white(merged) - on_white(expected)).max() <= 1
    layers = np.asarray(found.composite(force=True))
    if expected.shape[2] == 4:
        assert np.abs(layers[..., 3].astype(int) - expected[..., 3]).max() <= 1
        assert np.abs(on_white(layers) - on_white(expected)).max() <= 3
    else:
        assert np.abs(layers[..., :3].astype(int) - expected).max() <= 3


def test_the_layers_hold_the_photo_and_the_cut_out_with_its_matte_as_a_mask() -> None:
    found, _, subject = document(background="#3060a0")
    bottom, background, cutout = found
    assert (samples(bottom) == subject.image).all()
    assert (samples(background) == (0x30, 0x60, 0xA0)).all()
    assert (samples(cutout)[..., :3] == subject.image_with_edge_colours(Foreground.ESTIMATE)).all()
    mask = cutout.mask
    assert mask is not None
    assert (np.asarray(mask.topil()) == subject.matte).all()
    assert not mask.disabled


def test_a_document_can_be_submitted_as_a_photo_again() -> None:
    image, matte = photo()
    decoded = DecodedImage(image, image.shape[1], image.shape[0])
    wanted = Options.model_validate({"format": "psd"})
    [file] = finish_matte(decoded, matte, wanted)
    again = decode(file.data, Settings(), min_side_px=None)
    solid = matte == 255
    assert (again.image[solid] == image[solid]).all()


def test_metadata_are_kept_where_photoshop_looks_for_them() -> None:
    image, _ = photo()
    icc = bytes(range(201))
    about = Metadata(icc=icc, dpi=300.0, exif=((0x013B, "A. Photographer"),))
    data = encode_psd(image, [Layer("Photo", image)], about)
    resources = psd_tools.PSDImage.open(io.BytesIO(data)).image_resources
    assert resources.get_data(psd_tools.constants.Resource.ICC_PROFILE) == icc
    resolution = resources.get_data(psd_tools.constants.Resource.RESOLUTION_INFO)
    assert resolution is not None
    assert resolution.horizontal == 300 << 16
    with PIL.Image.open(io.BytesIO(data)) as other:
        assert other.info["icc_profile"] == icc
    exif = PIL.Image.Exif()
    exif.load(resources.get_data(psd_tools.constants.Resource.EXIF_DATA_1))
    assert exif[0x013B] == "A. Photographer"


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 2)])
def test_documents_of_any_shape_are_read(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (*size, 4), np.uint8)
    layer = Layer("A name of odd length", pixels[..., :3], mask=pixels[..., 3])
    found = psd_tools.PSDImage.open(io.BytesIO(encode_psd(pixels, [layer], Metadata())))
    assert (samples(found[0]) == pixels[..., :3]).all()
    assert found[0].name == "A name of odd length"


def test_at_most_twice_the_file_is_in_memory() -> None:
    """Noise, which no packing makes smaller: 3 layers and the merged picture, 13 bytes a pixel."""
    pixels = np.random.default_rng(3).integers(0, 256, (700, 900, 4), np.uint8)
    layers = [Layer(name, pixels[..., :3]) for name in "abc"]
    tracemalloc.start()
    data = encode_psd(pixels, layers, Metadata())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(data)


def test_a_matte_alone_and_a_size_limit_are_refused() -> None:
    for wrong in ({"output": "alpha"}, {"max_bytes": 100_000}):
        with pytest.raises(ValidationError):
            Options.model_validate({"format": "psd", **wrong})
    assert Options.model_validate({"format": "psd", "output": "both"}).extras[0].format == "png"
