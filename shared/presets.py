"""Presets: named sets of options, all of which can also be set one by one.

`preview`, `product`, `portrait` and `bulk` are common in matting programs. The others produce the
picture that a marketplace requires (rules: shared.marketplaces).
"""

from enum import StrEnum
from typing import Any


class Preset(StrEnum):
    """The names of the presets; `DESCRIPTIONS` explains each."""

    PREVIEW = "preview"
    PRODUCT = "product"
    PORTRAIT = "portrait"
    BULK = "bulk"
    AMAZON = "amazon"
    WALMART = "walmart"
    EBAY = "ebay"
    GOOGLE = "google"
    ZALANDO = "zalando"
    SHOPIFY = "shopify"
    TAOBAO = "taobao"


DESCRIPTIONS: dict[Preset, str] = {
    Preset.PREVIEW: "Fast and small: at most 800 pixels, hard edge.",
    Preset.PRODUCT: "Hard goods: edge shrunk by one pixel and feathered, clean edge colours.",
    Preset.PORTRAIT: "Hair and skin: the soft edge of the matte, unchanged.",
    Preset.BULK: "Fastest: hard edge, no refinement, the photo's own colours.",
    Preset.AMAZON: "Main image: pure white, product on 90 % of a square, JPEG.",
    Preset.WALMART: "Pure white square of up to 2200 pixels, JPEG.",
    Preset.EBAY: "White, product on 90 % of a square of up to 1600 pixels, JPEG.",
    Preset.GOOGLE: "Merchant Center: white, product on 82 % of a square of up to 1500 pixels, "
    "JPEG.",
    Preset.ZALANDO: "Packshot: pure white, 1:1.44, up to 1801 × 2600 pixels, JPEG.",
    Preset.SHOPIFY: "White square of up to 2048 pixels, JPEG.",
    Preset.TAOBAO: "White-background image: 800 × 800, JPEG of 38–300 kB.",
}

_PACKSHOT: dict[str, Any] = {
    "format": "jpeg",
    "background": "#ffffff",
    "quality": 92,
    "black_point": 0.2,
    "edge_reach": 0.005,
}
_EDGE: dict[str, Any] = {"erode_px": 1, "feather_px": 0.8, "foreground": "estimate"}

PRESETS: dict[Preset, dict[str, Any]] = {
    Preset.PREVIEW: {
        "max_side_px": 800,
        "format": "webp",
        "quality": 80,
        "threshold": 0.5,
        "refine": False,
        "foreground": "keep",
    },
    Preset.PRODUCT: dict(_EDGE),
    Preset.PORTRAIT: {"foreground": "estimate", "refine": True},
    Preset.BULK: {"threshold": 0.5, "foreground": "keep", "refine": False},
    Preset.AMAZON: _PACKSHOT
    | _EDGE
    | {"canvas": "1:1", "scale": 0.9, "max_side_px": 2000, "market": "amazon"},
    Preset.WALMART: _PACKSHOT
    | _EDGE
    | {
        "canvas": "1:1",
        "scale": 0.9,
        "max_side_px": 2200,
        "max_bytes": 5_000_000,
        "market": "walmart",
    },
    Preset.EBAY: _PACKSHOT
    | _EDGE
    | {"canvas": "1:1", "scale": 0.9, "max_side_px": 1600, "market": "ebay"},
    Preset.GOOGLE: _PACKSHOT
    | _EDGE
    | {"canvas": "1:1", "scale": 0.82, "max_side_px": 1500, "market": "google"},
    Preset.ZALANDO: _PACKSHOT
    | _EDGE
    | {"canvas": "1801:2600", "scale": 0.88, "max_side_px": 2600, "market": "zalando"},
    Preset.SHOPIFY: _PACKSHOT
    | _EDGE
    | {"canvas": "1:1", "scale": 0.9, "max_side_px": 2048, "market": "shopify"},
    Preset.TAOBAO: _PACKSHOT
    | _EDGE
    | {
        "canvas": "800x800",
        "scale": 0.9,
        "quality": 100,  # Taobao requires at least 38 kB
        "max_bytes": 300_000,
        "market": "taobao",
    },
}
