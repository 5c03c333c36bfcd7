"""Backgrounds, shadows, edges and files, checked after decoding."""

import io
import zipfile
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from shared.marketplaces import Market
from shared.options import Options
from shared.result_names import NamedPhoto
from shared.settings import Settings
from tests.colour_profiles import adobe_rgb
from worker.imaging.arrays import Image
from worker.imaging.background import render_background
from worker.imaging.decoding import DecodedImage, decode
from worker.imaging.encoding import encode
from worker.imaging.finishing import finish, metadata_to_keep, min_decode_side_px
from worker.imaging.marketplace_rules import unmet_rules
from worker.imaging.matte import adjust_matte
from worker.imaging.metadata import Metadata
from worker.imaging.prepared import PreparedImage
from worker.imaging.render import Subject, matte_on_canvas, render


def photo(width: int = 900, height: int = 700) -> tuple[Image, Image]:
    """A textured brown disc on grey: the photo and its soft-edged matte."""
    rng = np.random.default_rng(1)
    matte = np.zeros((height, width), np.uint8)
    cv2.circle(matte, (width // 2, height // 2), height * 2 // 5, 255, -1, cv2.LINE_AA)
    image = np.full((height, width, 3), 150, np.uint8)
    image[matte > 0] = (120, 70, 40)
    noise = rng.integers(-12, 13, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), matte


def files_of(options: Options, name: str = "shop/shoe.jpg") -> list[tuple[str, bytes]]:
    image, matte = photo()
    height, width = matte.shape
    prepared = PreparedImage(np.zeros((height, width, 3), np.uint8), (("resize", (height, width)),))
    alpha = (matte / np.float32(255)).astype(np.float32)
    decoded = DecodedImage(image, width, height)
    files = finish(decoded, prepared, alpha, options, photo=NamedPhoto(name))
    return [(file.name, file.data) for file in files]


def read(data: bytes) -> Image:
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("kind", ["png", "webp", "avif"])
def test_formats_with_transparency_keep_it(kind: str) -> None:
    ((_, data),) = files_of(Options.model_validate({"format": kind}))
    assert PIL.Image.open(io.BytesIO(data)).format == kind.upper()
    pixels = read(data)
    assert pixels.shape == (700, 900, 4)
    assert (pixels[350, 450, 3], pixels[0, 0, 3]) == (255, 0)


def test_a_zip_holds_straight_colours_and_the_matte() -> None:
    ((name, data),) = files_of(Options.model_validate({"format": "zip"}))
    assert name == "shop/shoe.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png"]
        colour, alpha = read(archive.read("color.jpg")), read(archive.read("alpha.png"))
    assert colour.shape == (700, 900, 3)
    assert np.abs(alpha.astype(int) - photo()[1]).max() <= 11  # black and white point
    assert abs(int(colour[0, 0, 0]) - 150) < 25


def test_one_image_gives_several_files_named_by_templates() -> None:
    wanted = {
        "output": "both",
        "extra_outputs": [
            {"name": "white/{stem}-{width}.{ext}", "format": "jpeg", "background": "#ffffff"},
            {"name": "{folder}/thumb-{stem}.{ext}", "max_side_px": 90, "format": "webp"},
        ],
    }
    files = dict(files_of(Options.model_validate(wanted)))
    assert list(files) == [
        "shop/shoe.png",
        "shop/shoe-alpha.png",
        "white/shoe-900.jpg",
        "shop/thumb-shoe.webp",
    ]
    shapes = [read(data).shape for data in files.values()]
    assert shapes == [(700, 900, 4), (700, 900), (700, 900, 3), (70, 90, 4)]


def test_a_gradient_runs_from_one_colour_to_the_other() -> None:
    options = Options.model_validate({"background": {"gradient": ["#000000", "#ffffff"]}})
    assert options.background is not None
    pixels = render_background(options.background, 40, 200, None)
    assert pixels[0].max() <= 2
    assert pixels[-1].min() >= 253
    assert (np.diff(pixels[:, 5, 0].astype(int)) >= -1).all()


def test_a_picture_covers_the_frame_and_the_subject_lies_on_it() -> None:
    image, matte = photo(300, 200)
    picture = np.zeros((50, 500, 3), np.uint8)
    picture[:, 250:] = 255
    options = Options.model_validate({"background": "s3://b/back.jpg", "foreground": "keep"})
    result = render(Subject(image, matte), options, picture)
    assert (result[0, 0] == 0).all()
    assert (result[0, -1] == 255).all()
    np.testing.assert_array_equal(result[matte == 255], image[matte == 255])


@pytest.mark.parametrize("kind", ["drop", "contact"])
def test_a_shadow_is_soft_black_under_the_subject(kind: str) -> None:
    image, matte = photo(300, 300)
    clear = render(Subject(image, matte), Options.model_validate({"shadow": kind}))
    outside = matte == 0
    shade = clear[..., 3][outside]
    assert 0 < shade.max() < 128
    assert (clear[..., :3][outside] == 0).all()
    assert (clear[..., 3][matte == 255] == 255).all()
    on_white = {"shadow": kind, "background": "#ffffff", "foreground": "keep"}
    white = render(Subject(image, matte), Options.model_validate(on_white))
    assert 120 < white[outside].min() < 255
    np.testing.assert_array_equal(white[matte == 255], image[matte == 255])


@pytest.mark.parametrize("kind", ["drop", "contact"])
def test_a_crop_includes_the_shadow(kind: str) -> None:
    matte = np.zeros((300, 300), np.uint8)
    cv2.rectangle(matte, (60, 60), (240, 240), 255, -1)  # so that the crop is close on all sides
    image = np.full((300, 300, 3), 90, np.uint8)
    asked = {"shadow": kind, "background": "#ffffff", "crop": True, "crop_margin": "2px"}
    cut = render(Subject(image, matte), Options.model_validate(asked))
    frame = np.concatenate([cut[0], cut[-1], cut[:, 0], cut[:, -1]])
    assert frame.min() >= 250, "no hard line where the shadow is cut off"
    assert cut.min() == 90
    bare = Options.model_validate(asked | {"shadow": None})
    assert render(Subject(image, matte), bare).shape[:2] == (185, 185)


def test_a_contact_shadow_is_as_wide_as_the_subject_s_base() -> None:
    matte = np.zeros((400, 400), np.uint8)
    cv2.rectangle(matte, (40, 60), (360, 200), 255, -1)  # a table's top
    cv2.rectangle(matte, (250, 200), (290, 320), 255, -1)  # its only leg
    image = np.full((400, 400, 3), 90, np.uint8)
    clear = render(Subject(image, matte), Options.model_validate({"shadow": "contact"}))
    dark = np.nonzero(clear[322:, :, 3].max(0) > 12)[0]
    assert 220 < dark[0] < 260
    assert 280 < dark[-1] < 320


def test_edges_are_eroded_feathered_and_cut() -> None:
    matte = np.zeros((100, 100), np.uint8)
    matte[20:80, 20:80] = 255
    assert (adjust_matte(matte, Options(erode_px=2)) > 127).sum() == 56 * 56
    assert (adjust_matte(matte, Options(erode_px=-1)) > 127).sum() > 60 * 60
    soft = adjust_matte(matte, Options(feather_px=4))
    assert len(np.unique(soft)) > 10
    assert set(np.unique(adjust_matte(soft, Options(threshold=0.5)))) == {0, 255}
    assert adjust_matte(np.full((4, 4), 40, np.uint8), Options(black_point=0.2)).max() == 0
    inside = adjust_matte(matte, Options(roi=(0, 0, 0.5, 1)))
    assert (inside[:, 50:].max(), inside[50, 40]) == (0, 255)


def unmet(subject: Subject, asked: dict[str, Any], metadata: Metadata | None = None) -> list[str]:
    """The rules of this marketplace that the finished file violates."""
    options = Options.model_validate(asked)
    assert options.market is not None
    data = encode(render(subject, options), options, metadata or Metadata())
    assert subject.box is not None
    left, top, right, bottom = subject.box
    return unmet_rules(
        data,
        options.format,
        options.market,
        matte=matte_on_canvas(subject, options),
        photo_px=(right - left, bottom - top),
    )


@pytest.mark.parametrize("market", list(Market))
def test_a_preset_meets_its_market_s_rules_when_the_photo_has_the_pixels(market: Market) -> None:
    assert unmet(Subject(*photo(2600, 2600)), {"preset": market}) == []


def test_rules_that_a_photo_cannot_meet_are_reported() -> None:
    (rule,) = unmet(Subject(*photo(300, 300)), {"preset": "amazon"})
    assert "Amazon requires at least 1000 px; the subject has only 243 × 243 px" in rule


def test_a_wide_gamut_violates_the_srgb_rule() -> None:
    subject = Subject(*photo(2400, 2400))
    options = {"preset": "amazon", "colour_profile": "keep", "dpi": 300}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    for icc, told in ((None, []), (profile, ["Amazon requires sRGB"])):
        rules = unmet(subject, options, Metadata(icc=icc, dpi=300))
        assert len(rules) == len(told)
        assert all(said in rule for said, rule in zip(told, rules, strict=True))


def test_an_almost_white_background_violates_the_rule() -> None:
    asked = {"preset": "amazon", "background": "#fdfdfd"}
    (rule,) = unmet(Subject(*photo(2400, 2400)), asked)
    assert "are not exactly white" in rule


def test_white_subjects_and_hazes_are_told_from_the_background() -> None:
    image, matte = photo(1300, 1300)
    image[matte > 0] = 252
    assert unmet(Subject(image, matte), {"preset": "amazon"}) == []
    image[matte == 0] = 90
    hazy = np.maximum(matte, 20)
    (rule,) = unmet(Subject(image, hazy), {"preset": "amazon"})
    assert "are not exactly white" in rule
    options = Options(edge_reach=0.005)
    assert unmet(Subject(image, adjust_matte(hazy, options)), {"preset": "amazon"}) == []


def test_edge_options_change_only_the_edge() -> None:
    matte = np.zeros((300, 300), np.uint8)
    cv2.circle(matte, (150, 150), 100, 255, -1)
    soft: Image = cv2.GaussianBlur(matte, (0, 0), 12).astype(np.uint8)
    soft[:20, :20] = 90  # a speck
    short = adjust_matte(soft, Options(edge_reach=0.02))
    np.testing.assert_array_equal(short[soft >= 128], soft[soft >= 128])
    y, x = np.mgrid[:300, :300]
    outside = np.hypot(x - 150, y - 150) > 100 + 0.02 * 200 + 2
    assert short[outside].max() == 0
    assert 0 < (short > 0).sum() - (soft >= 128).sum() < 0.15 * (soft >= 128).sum()


def test_a_subject_that_is_clear_everywhere_stays() -> None:
    """It was cleared, because no pixel was near a solid one."""
    glass: Image = np.where(photo(300, 200)[1] > 0, 110, 0).astype(np.uint8)
    np.testing.assert_array_equal(adjust_matte(glass, Options(edge_reach=0.005)), glass)


def with_header(kind: str) -> bytes:
    """A photo with a wide-gamut profile, 300 DPI, an artist and a position."""
    exif = PIL.Image.Exif()
    exif[0x013B], exif[0x8298], exif[0x010F] = "A. Artist", "© Shop".encode(), "Camera"
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}
    buffer = io.BytesIO()
    picture = PIL.Image.fromarray(photo(64, 48)[0])
    picture.save(buffer, kind, exif=exif.tobytes(), dpi=(300, 300), icc_profile=adobe_rgb())
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif"])
def test_dpi_profile_and_chosen_exif_are_kept_and_positions_never(kind: str) -> None:
    options = Options.model_validate(
        {
            "format": kind,
            "background": "#ffffff",
            "dpi": "keep",
            "exif": ["artist", "copyright"],
            "colour_profile": "keep",
        }
    )
    source = with_header("jpeg")
    (metadata,) = metadata_to_keep(source, options)
    data = encode(photo(64, 48)[0], options, metadata)
    result = PIL.Image.open(io.BytesIO(data))
    exif = result.getexif()
    assert (exif[0x013B], exif[0x8298]) == ("A. Artist", "© Shop".encode().decode("latin-1"))
    assert 0x8825 not in exif
    assert 0x010F not in exif
    assert result.info["icc_profile"] == PIL.Image.open(io.BytesIO(source)).info["icc_profile"]
    dpi = result.info.get("dpi", (exif.get(0x011A), 0))[0]
    assert float(dpi) == pytest.approx(300, abs=1)
    assert b"Camera" not in data


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif"])
def test_a_matte_has_no_profile_and_its_cutout_has_one(kind: str) -> None:
    """PNG allows a profile for RGB in pictures with colours only (third edition, 11.3.2.3)."""
    wanted = {"colour_profile": "keep", "dpi": 300, "output": "alpha", "format": kind}
    extra = {"name": "b.{ext}", "format": "png"}
    options = Options.model_validate(wanted | {"extra_outputs": [extra]})
    matte, cutout = metadata_to_keep(with_header("jpeg"), options)
    assert (matte.icc, matte.dpi) == (None, 300)
    assert cutout.icc == adobe_rgb()
    data = encode(photo(64, 48)[1], options, matte)
    assert "icc_profile" not in PIL.Image.open(io.BytesIO(data)).info


def test_by_default_no_metadata_is_kept() -> None:
    (metadata,) = metadata_to_keep(with_header("jpeg"), Options())
    assert not metadata


def test_small_results_need_no_full_size_pixels() -> None:
    assert min_decode_side_px(Options()) is None
    assert min_decode_side_px(Options(preset="preview")) == 1_024
    assert min_decode_side_px(Options.model_validate({"output": "alpha"})) == 1_024
    assert min_decode_side_px(Options(preset="amazon")) is None
    assert min_decode_side_px(Options(max_side_px=3_000)) == 3_000


def test_a_photo_decoded_smaller_gives_the_alpha_at_its_own_size() -> None:
    image, matte = photo(300, 200)
    prepared = PreparedImage(np.zeros((200, 300, 3), np.uint8), (("resize", (200, 300)),))
    options = Options.model_validate({"output": "alpha"})
    decoded = DecodedImage(image, 600, 400)
    (file,) = finish(decoded, prepared, (matte / 255).astype(np.float32), options)
    assert read(file.data).shape == (400, 600)


@pytest.mark.parametrize("profile", ["fast", "exact"])
@pytest.mark.parametrize("output", ["cutout", "alpha"])
def test_what_is_transparent_stays_so_unless_asked_otherwise(profile: str, output: str) -> None:
    image, matte = photo(300, 200)
    prepared = PreparedImage(np.zeros((200, 300, 3), np.uint8), (("resize", (200, 300)),))
    given = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (200, 1))
    decoded = DecodedImage(image, 300, 200, given)
    alpha = (matte / 255).astype(np.float32)
    options = {"profile": profile, "output": output}
    (file,) = finish(decoded, prepared, alpha, Options.model_validate(options))
    found = read(file.data)
    found = found[..., 3] if found.ndim == 3 else found
    assert (found <= given).all()
    assert found[100, 180] == given[100, 180], "inside the subject it is the photo's own"
    options["source_alpha"] = "ignore"
    (file,) = finish(decoded, prepared, alpha, Options.model_validate(options))
    whole = read(file.data)
    assert (whole[..., 3] if whole.ndim == 3 else whole)[100, 180] == 255


def test_a_cmyk_photo_comes_out_in_srgb() -> None:
    buffer = io.BytesIO()
    PIL.Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(buffer, "jpeg")
    red, green, blue = decode(buffer.getvalue(), Settings()).image[10, 10]
    assert red > 200
    assert max(green, blue) < 60
