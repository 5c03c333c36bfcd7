"""The rules of marketplaces for a product's main picture: one table, each row with source and date.

The figures come from stored copies of the pages named here, some of them second-hand. Correct a row
when a marketplace changes its rules. worker.imaging.marketplace_rules checks finished files against
them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Market(StrEnum):
    """The marketplaces whose rules are known."""

    AMAZON = "amazon"
    WALMART = "walmart"
    EBAY = "ebay"
    GOOGLE = "google"
    ZALANDO = "zalando"
    SHOPIFY = "shopify"
    TAOBAO = "taobao"

    @property
    def display_name(self) -> str:
        """The usual spelling of the name: `Amazon`, `eBay`."""
        return "eBay" if self is Market.EBAY else self.value.capitalize()


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRules:
    """The requirements for the decoded file; None means no requirement."""

    formats: tuple[str, ...]
    white_background: bool = False
    """Every background pixel must be exactly 255, 255, 255."""
    ratio: float | None = None
    """Width divided by height, within 0.5 %."""
    min_width_px: int | None = None
    min_height_px: int | None = None
    min_longest_px: int | None = None
    max_longest_px: int | None = None
    max_megapixels: float | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    min_fill: float | None = None
    """Least size of the subject's box relative to the picture, on the side where it fills more."""
    max_fill: float | None = None
    min_subject_px: int | None = None
    """Least width and height of the subject's box."""
    source: str
    read: str
    """Year and month in which the source was read."""


RULES: dict[Market, MarketRules] = {
    Market.AMAZON: MarketRules(
        formats=("jpeg", "tiff", "png", "gif"),
        white_background=True,
        min_fill=0.85,
        min_longest_px=1_000,  # 500 is accepted but has no zoom
        max_longest_px=10_000,
        source="Seller Central as quoted by help.e-tailize.com and mercatuslab.com (second-hand)",
        read="2025-11",
    ),
    Market.WALMART: MarketRules(
        formats=("jpeg", "png", "bmp"),
        white_background=True,
        ratio=1.0,
        min_width_px=1_500,  # 2200 is recommended; below 1500 there is no zoom
        min_height_px=1_500,
        max_bytes=5_000_000,
        source="marketplacelearn.walmart.com",
        read="2025-11",
    ),
    Market.EBAY: MarketRules(
        formats=("jpeg", "png", "webp", "avif"),
        min_longest_px=500,  # 1600 recommended
        source="ebay.com picture policy 4370",
        read="2025-11",
    ),
    Market.GOOGLE: MarketRules(
        formats=("jpeg", "png", "webp"),
        min_width_px=500,
        min_height_px=500,
        max_megapixels=64,
        max_bytes=16_000_000,
        min_fill=0.75,
        max_fill=0.90,
        source="support.google.com/merchants/answer/6324350 (fill and bytes second-hand)",
        read="2025-11",
    ),
    Market.ZALANDO: MarketRules(
        formats=("jpeg",),
        white_background=True,
        ratio=1 / 1.44,
        min_width_px=762,
        min_height_px=1_100,
        max_bytes=20_000_000,
        source="partner.zalando.com, visual content guide, packshot",
        read="2025-11",
    ),
    Market.SHOPIFY: MarketRules(
        formats=("jpeg", "png", "webp", "avif"),
        max_longest_px=5_000,
        max_megapixels=25,
        max_bytes=20_000_000,
        source="sellshot.ai (second-hand)",
        read="2025-11",
    ),
    Market.TAOBAO: MarketRules(
        formats=("jpeg",),
        white_background=True,
        ratio=1.0,
        min_width_px=800,
        min_height_px=800,
        max_longest_px=800,
        min_bytes=38_000,
        max_bytes=300_000,
        min_subject_px=300,
        source="sellers' guides of 2017–2020 (second-hand)",
        read="2025-11",
    ),
}
