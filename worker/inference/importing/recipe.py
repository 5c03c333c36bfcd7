"""What a network wants of a photo and what its answer still lacks: its recipe."""

from dataclasses import dataclass
from typing import Any

Three = tuple[float, float, float]

IMAGENET_MEAN: Three = (0.485, 0.456, 0.406)
IMAGENET_STD: Three = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """Before and after a network, in deploy.yaml's terms."""

    size: tuple[int, int]
    """Height and width of its input; a photo is squeezed into it."""
    mean: Three = (0.5, 0.5, 0.5)
    std: Three = (0.5, 0.5, 0.5)
    divide_by_max: bool = False
    """Whether a photo is divided by its own largest value in place of 255."""
    sigmoid: bool = False
    """Whether the network answers with logits."""
    stretch: bool = False
    """Whether the least of an answer is meant as 0 and the most as 1."""

    @property
    def postprocess(self) -> tuple[str, ...]:
        """The steps of `Deploy.postprocess`."""
        steps = {"Sigmoid": self.sigmoid, "Stretch": self.stretch}
        return tuple(name for name, wanted in steps.items() if wanted)

    def deploy(self, *, free_batch: bool) -> dict[str, Any]:
        """deploy.yaml's `Deploy` for a bundle of this network."""
        height, width = self.size
        normalize: dict[str, Any] = {
            "type": "Normalize", "mean": list(self.mean), "std": list(self.std),
        }  # fmt: skip
        if self.divide_by_max:
            normalize["divide_by_max"] = True
        return {
            "model": "model.pdmodel",
            "params": "model.pdiparams",
            "input_shape": [-1 if free_batch else 1, 3, height, width],
            "transforms": [
                {"type": "LoadImages"},
                {"type": "Resize", "target_size": [width, height]},
                normalize,
            ],
            "half_pixel_resize": True,  # operators.sampling builds no other
            "postprocess": [{"type": name} for name in self.postprocess],
        }


LIKE = {
    "u2net": Recipe((320, 320), IMAGENET_MEAN, IMAGENET_STD, divide_by_max=True, stretch=True),
    "isnet": Recipe((1_024, 1_024), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    "isnet-anime": Recipe((1_024, 1_024), IMAGENET_MEAN, (1.0, 1.0, 1.0)),
    "birefnet": Recipe((1_024, 1_024), IMAGENET_MEAN, IMAGENET_STD, sigmoid=True),
    "modnet": Recipe((512, 512)),
}
"""As the networks' own repositories run them, and rembg for isnet-anime:
xuebinqin/U-2-Net (u2net_test.py, data_loader.py),
xuebinqin/DIS (Inference.py; its last stretch is left out: the answer is a sigmoid already, and an
empty photo must stay empty), ZhengPeng7/BiRefNet (inference.py), ZHKKKe/MODNet (onnx/)."""
