"""Published matting models: names, licences, and the figures that their publishers give."""

from dataclasses import dataclass

LICENCE = "Apache-2.0"
"""The licence of PaddleSeg, which publishes the models. Their training data has licences of its
own.
"""


@dataclass(frozen=True)
class PublishedModel:
    """A model that `matting models pull` can download. The figures are from PaddleSeg's matting
    page: errors on PPM-AIM-195, and frames per second on a V100 with Paddle Inference at 512 × 512.
    """

    name: str
    sad: float | None = None
    mse: float | None = None
    fps_v100: float | None = None


@dataclass(frozen=True)
class PublishedOnnx:
    """An ONNX file of rembg's release v0.0.0 that `matting models pull` downloads and imports.

    The MD5 sums are those in rembg's code (rembg/sessions, July 2026). BRIA's RMBG models are left
    out: commercial use needs a contract.
    """

    name: str
    file: str
    like: str
    """Of recipe.LIKE."""
    md5: str
    licence: str
    origin: str


PUBLISHED_MODELS = {
    one.name: one
    for one in (
        PublishedModel("ppmattingv2-stdc1-human_512", 40.59, 0.0038, 98.89),
        PublishedModel("ppmatting-hrnet_w18-human_512", 31.56, 0.0022, 28.9),
        PublishedModel("ppmatting-hrnet_w18-human_1024"),
        PublishedModel("pp-humanmatting-resnet34_vd"),
        PublishedModel("modnet-mobilenetv2", 50.07, 0.0053, 68.4),
        PublishedModel("modnet-resnet50_vd"),
        PublishedModel("modnet-hrnet_w18"),
    )
}

_U2NET = ("Apache-2.0", "https://github.com/xuebinqin/U-2-Net")
_SILUETA = (
    "Apache-2.0 (U-2-Net's; shared without terms of its own)",
    "https://github.com/xuebinqin/U-2-Net/issues/295",
)
_DIS = ("Apache-2.0", "https://github.com/xuebinqin/DIS")
_ANIME = ("Apache-2.0", "https://github.com/SkyTNT/anime-segmentation")
_BIREFNET = ("MIT", "https://github.com/ZhengPeng7/BiRefNet")

PUBLISHED_ONNX = {
    one.name: one
    for one in (
        PublishedOnnx("u2net", "u2net.onnx", "u2net", "60024c5c889badc19c04ad937298a77b", *_U2NET),
        PublishedOnnx(
            "u2netp", "u2netp.onnx", "u2net", "8e83ca70e441ab06c318d82300c84806", *_U2NET
        ),
        PublishedOnnx(
            "u2net_human_seg",
            "u2net_human_seg.onnx",
            "u2net",
            "c09ddc2e0104f800e3e1bb4652583d1f",
            *_U2NET,
        ),
        PublishedOnnx(
            "silueta", "silueta.onnx", "u2net", "55e59e0d8062d2f5d013f4725ee84782", *_SILUETA
        ),
        PublishedOnnx(
            "isnet-general-use",
            "isnet-general-use.onnx",
            "isnet",
            "fc16ebd8b0c10d971d3513d564d01e29",
            *_DIS,
        ),
        PublishedOnnx(
            "isnet-anime",
            "isnet-anime.onnx",
            "isnet-anime",
            "6f184e756bb3bd901c8849220a83e38e",
            *_ANIME,
        ),
        PublishedOnnx(
            "birefnet-general",
            "BiRefNet-general-epoch_244.onnx",
            "birefnet",
            "7a35a0141cbbc80de11d9c9a28f52697",
            *_BIREFNET,
        ),
        PublishedOnnx(
            "birefnet-general-lite",
            "BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
            "birefnet",
            "4fab47adc4ff364be1713e97b7e66334",
            *_BIREFNET,
        ),
        PublishedOnnx(
            "birefnet-portrait",
            "BiRefNet-portrait-epoch_150.onnx",
            "birefnet",
            "c3a64a6abf20250d090cd055f12a3b67",
            *_BIREFNET,
        ),
        PublishedOnnx(
            "birefnet-dis",
            "BiRefNet-DIS-epoch_590.onnx",
            "birefnet",
            "2d4d44102b446f33a4ebb2e56c051f2b",
            *_BIREFNET,
        ),
        PublishedOnnx(
            "birefnet-hrsod",
            "BiRefNet-HRSOD_DHU-epoch_115.onnx",
            "birefnet",
            "c017ade5de8a50ff0fd74d790d268dda",
            *_BIREFNET,
        ),
        PublishedOnnx(
            "birefnet-massive",
            "BiRefNet-massive-TR_DIS5K_TR_TEs-epoch_420.onnx",
            "birefnet",
            "33e726a2136a3d59eb0fdf613e31e3e9",
            *_BIREFNET,
        ),
    )
}
