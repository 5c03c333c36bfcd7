"""A network's recipe: how to prepare a photo for it, and how to make alpha from its answer."""

from dataclasses import dataclass
from typing import Any

Three = tuple[float, float, float]

IMAGENET_MEAN: Three = (0.485, 0.456, 0.406)
IMAGENET_STD: Three = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """The steps before and after a network, in deploy.yaml's terms."""

    size: tuple[int, int]
    """Height and width of the input. Photos are resized to it without keeping their proportions."""
    mean: Three = (0.5, 0.5, 0.5)
    std: Three = (0.5, 0.5, 0.5)
    divide_by_max: bool = False
    """Whether a photo is divided by its own largest value instead of 255."""
    sigmoid: bool = False
    """Whether the network returns logits."""
    stretch: bool = False
    """Whether the answer's minimum becomes 0 and its maximum 1."""

    @property
    def postprocess(self) -> tuple[str, ...]:
        """The steps of `Deploy.postprocess`."""
        steps = {"Sigmoid": self.sigmoid, "Stretch": self.stretch}
        return tuple(name for name, wanted in steps.items() if wanted)

    def deploy(self, *, free_batch: bool) -> dict[str, Any]:
        """The section `Deploy` of deploy.yaml for a bundle of this network."""
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
            "half_pixel_resize": True,  # the only kind of resizing in operators.sampling
            "postprocess": [{"type": name} for name in self.postprocess],
        }


LIKE = {
    "u2net": Recipe((320, 320), IMAGENET_MEAN, IMAGENET_STD, divide_by_max=True, stretch=True),
    "isnet": Recipe((1_024, 1_024), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    "isnet-anime": Recipe((1_024, 1_024), IMAGENET_MEAN, (1.0, 1.0, 1.0)),
    "birefnet": Recipe((1_024, 1_024), IMAGENET_MEAN, IMAGENET_STD, sigmoid=True),
    "modnet": Recipe((512, 512)),
}
"""The recipes are those of the networks' own repositories, and rembg's for isnet-anime:
xuebinqin/U-2-Net (u2net_test.py, data_loader.py), xuebinqin/DIS (Inference.py), ZhengPeng7/BiRefNet
(inference.py), ZHKKKe/MODNet (onnx/). DIS stretches its answer at the end. We leave that out,
because the answer is a sigmoid already and an empty photo must stay empty.
"""
