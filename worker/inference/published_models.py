"""What PaddleSeg publishes for matting: names, licence, and the figures that it gives for them."""

from dataclasses import dataclass

LICENCE = "Apache-2.0"
"""Of PaddleSeg, which publishes them; what they were trained on has terms of its own."""


@dataclass(frozen=True)
class PublishedModel:
    """A model that `matting models pull` knows. The figures are PaddleSeg's own, from its matting
    page: on PPM-AIM-195, and frames a second on a V100 with Paddle Inference at 512 × 512.
    """

    name: str
    sad: float | None = None
    mse: float | None = None
    fps_v100: float | None = None


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
