# ruff: noqa: N802 - its methods are named as the transforms are
"""The profile `exact` compared with a literal implementation of PaddleSeg's deploy script, pixel by
pixel.

It follows Matting/deploy/python/infer.py, Matting/ppmatting/transforms/transforms.py and
paddleseg/transforms/functional.py of PaddleSeg with the plain engine. PaddleSeg's script fails on
padded photos, because it expects four dimensions and alpha has two. Here it does what was meant.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from shared.options import Options
from shared.settings import Settings
from worker.inference.catalog import BUNDLES
from worker.inference.predictor import load_predictor
from worker.pipeline.pipeline import Pipeline, WorkItem
from worker.pipeline.work_items import requested_outputs

NORMALIZE = {"type": "Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
DEPLOYMENTS: dict[str, list[dict[str, Any]]] = {
    "ppmattingv2": [{"type": "LimitShort", "max_short": 320}, {"type": "ResizeToIntMult"}],
    "modnet": [{"type": "ResizeByShort", "short_size": 256}, {"type": "ResizeToIntMult"}],
    "by-long": [{"type": "ResizeByLong", "long_size": 384}, {"type": "ResizeToIntMult"}],
    "limits": [
        {"type": "LimitLong", "max_long": 500, "min_long": 200},
        {"type": "LimitShort", "min_short": 128},
        {"type": "ResizeToIntMult", "mult_int": 64},
    ],
    "fixed": [{"type": "Resize", "target_size": [320, 256]}],
    "padded": [
        {"type": "ResizeByLong", "long_size": 320},
        {"type": "Padding", "target_size": [384, 352], "im_padding_value": [127.5, 127.5, 127.5]},
    ],
}
SIZES = ((300, 400), (701, 333), (90, 130), (1_200, 900), (257, 256))


def scene(height: int, width: int) -> NDArray[np.uint8]:
    """A shaded, textured subject (BGR), written by OpenCV."""
    rng = np.random.default_rng(height * width)
    wall = cv2.resize(rng.integers(120, 230, (6, 7, 3), np.uint8), (width, height))
    cloth = cv2.resize(rng.integers(0, 150, (40, 40, 3), np.uint8), (width, height))
    mask = np.zeros((height, width), np.uint8)
    centre, axes = (width // 2, height // 2), (width // 4, height // 3)
    cv2.ellipse(mask, centre, axes, 20, 0, 360, 255, -1, cv2.LINE_AA)
    share = mask[..., None] / 255
    return (cloth * share + wall * (1 - share)).astype(np.uint8)


@pytest.fixture(params=list(DEPLOYMENTS))
def export(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = shutil.copytree(BUNDLES / "builtin", tmp_path / "export")
    steps = [{"type": "LoadImages"}, *DEPLOYMENTS[request.param], NORMALIZE]
    deploy = {"model": "model.pdmodel", "params": "model.pdiparams", "transforms": steps}
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = []
    for height, width in SIZES:
        path = tmp_path / f"{height}x{width}.jpg"
        cv2.imwrite(str(path), scene(height, width))
        paths.append(path)
    turned = tmp_path / "turned.jpg"  # taken with the camera on its side
    turned.write_bytes(_with_orientation(paths[0].read_bytes(), 6))
    return [*paths, turned]


class Files:
    """A storage whose keys are paths. It keeps results in memory."""

    def __init__(self) -> None:
        self.results: dict[str, bytes] = {}

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        return Path(key).read_bytes()

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.results[key] = data


@pytest.fixture
def pipeline(export: Path) -> Iterator[tuple[Pipeline, Files]]:
    settings = Settings(model=str(export), predict_streams=1)
    files, predictor = Files(), load_predictor(settings, warm_shapes=False)
    assert predictor.describe()["configuration"] == "onednn"
    pipeline = Pipeline(predictor, files, settings)
    yield pipeline, files
    pipeline.close()
    predictor.close()


def test_every_pixel_is_within_one_level_of_paddleseg_s_own_script(
    pipeline: tuple[Pipeline, Files], export: Path, photos: list[Path]
) -> None:
    runner, files = pipeline
    options = Options.model_validate({"profile": "exact", "output": "alpha"})
    outcomes = runner.run_many(
        [
            WorkItem(
                item_id=path.name,
                bucket="",
                key=str(path),
                options=options,
                outputs=requested_outputs(options, [path.name]),
            )
            for path in photos
        ]
    )
    assert [outcome.error for outcome in outcomes] == [None] * len(photos)
    script = DeployScript(export)
    for path in photos:
        expected = script.alpha_of(path).astype(int)
        alpha = cv2.imdecode(
            np.frombuffer(files.results[path.name], np.uint8), cv2.IMREAD_UNCHANGED
        )
        assert alpha is not None
        assert alpha.dtype == np.uint8
        assert alpha.shape == expected.shape
        assert 0.02 < (expected > 128).mean() < 0.9, "a matte of nothing would prove nothing"
        assert np.abs(alpha.astype(int) - expected).max() <= 1, path.name


class DeployScript:
    """The steps of infer.py for one photo, in its order."""

    def __init__(self, folder: Path) -> None:
        from paddle import inference

        config = inference.Config(str(folder / "model.pdmodel"), str(folder / "model.pdiparams"))
        config.disable_glog_info()
        config.disable_mkldnn()
        self._predictor = inference.create_predictor(config)
        self._steps = yaml.safe_load((folder / "deploy.yaml").read_text())["Deploy"]["transforms"]

    def alpha_of(self, path: Path) -> NDArray[np.uint8]:
        """The grey file that infer.py would write."""
        image: Any = cv2.imread(str(path))
        trace: list[tuple[str, tuple[int, int]]] = []
        for step in self._steps:
            image = getattr(self, "_" + step["type"])(image, step, trace)
        handle = self._predictor.get_input_handle("img")
        batch = image.transpose(2, 0, 1)[None].copy()
        handle.reshape(batch.shape)
        handle.copy_from_cpu(batch)
        self._predictor.run()
        name = self._predictor.get_output_names()[0]
        alpha = self._predictor.get_output_handle(name).copy_to_cpu().squeeze(1)[0]
        for kind, (height, width) in trace[::-1]:
            if kind == "resize":
                alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)
            else:
                alpha = alpha[:height, :width]
        levels: NDArray[np.uint8] = (alpha * 255).astype("uint8")
        return levels

    def _LoadImages(self, image: Any, _step: Any, _trace: Any) -> Any:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _Normalize(self, image: Any, step: Any, _trace: Any) -> Any:
        image = image.astype(np.float32) / 255.0
        image -= np.array(step["mean"])
        image /= np.array(step["std"])
        return image

    def _to(self, image: Any, trace: Any, width: int, height: int) -> Any:
        trace.append(("resize", image.shape[:2]))
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)

    def _scaled(self, image: Any, trace: Any, edge: int, target: int) -> Any:
        scale = float(target) / float(edge)
        height, width = image.shape[:2]
        if target == edge:
            trace.append(("resize", (height, width)))
            return image
        return self._to(image, trace, round(width * scale), round(height * scale))

    def _limited(self, image: Any, trace: Any, edge: int, most: Any, least: Any) -> Any:
        target = edge
        if most is not None and edge > most:
            target = most
        elif least is not None and edge < least:
            target = least
        return self._scaled(image, trace, edge, target)

    def _LimitShort(self, image: Any, step: Any, trace: Any) -> Any:
        edge = min(image.shape[:2])
        return self._limited(image, trace, edge, step.get("max_short"), step.get("min_short"))

    def _LimitLong(self, image: Any, step: Any, trace: Any) -> Any:
        edge = max(image.shape[:2])
        return self._limited(image, trace, edge, step.get("max_long"), step.get("min_long"))

    def _ResizeByShort(self, image: Any, step: Any, trace: Any) -> Any:
        return self._scaled(image, trace, min(image.shape[:2]), step["short_size"])

    def _ResizeByLong(self, image: Any, step: Any, trace: Any) -> Any:
        return self._scaled(image, trace, max(image.shape[:2]), step["long_size"])

    def _ResizeToIntMult(self, image: Any, step: Any, trace: Any) -> Any:
        height, width = image.shape[:2]
        multiple = step.get("mult_int", 32)
        return self._to(image, trace, width - width % multiple, height - height % multiple)

    def _Resize(self, image: Any, step: Any, trace: Any) -> Any:
        return self._to(image, trace, *step["target_size"])

    def _Padding(self, image: Any, step: Any, trace: Any) -> Any:
        trace.append(("padding", image.shape[:2]))
        width, height = step["target_size"]
        bottom, right = max(0, height - image.shape[0]), max(0, width - image.shape[1])
        return cv2.copyMakeBorder(
            image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=step["im_padding_value"]
        )


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF block that contains only the orientation."""
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0])
    body = b"Exif\0\0" + tiff + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]
