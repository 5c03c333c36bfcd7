"""Finds models: shipped ones, pulled ones, or a folder with a PaddleSeg export."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from shared.errors import ModelLoadError
from shared.settings import Settings

BUNDLES = Path(__file__).parents[1] / "bundles"
SHIPPED = {name: BUNDLES / name for name in ("builtin", "u2netp")}
"""The models that ship with the product. A model of the same name in `models_dir` takes precedence.
"""


@dataclass(frozen=True)
class Model:
    """A model on disk: its graph, its weights, and the preprocessing of its deploy.yaml."""

    name: str
    graph: Path
    """model.pdmodel, or model.json in newer exports."""
    params: Path
    transforms: tuple[dict[str, Any], ...]
    """`Deploy.transforms` in order, each with a `type` and its parameters."""
    fixed_shape: tuple[int, int] | None = None
    """Height and width, if deploy.yaml says that the export accepts no other size."""
    one_at_a_time: bool = False
    """Whether the export accepts only one photo at a time, as deploy.yaml says."""
    half_pixel_resize: bool = False
    """`Deploy.half_pixel_resize`: every resize in the graph maps pixel centres on pixel centres
    (align_corners false, align_mode 0), or repeats pixels a whole number of times."""
    bf16: bool = False
    """`Deploy.bf16`: the mattes were measured in bf16, by hand or at the import, and are as good as
    in fp32.
    """
    postprocess: tuple[str, ...] = ()
    """`Deploy.postprocess` in order: steps that convert the network's answer to an alpha."""
    found_as: tuple[tuple[int, int, int], ...] = ()
    """Inode, size and time of its files when they were found; nothing: they are not checked."""

    def require_unchanged(self) -> None:
        """Check that its files are still those that were found. Else the networks that were opened
        meanwhile, and the fingerprint, may be of different ones. Raises ModelLoadError.
        """
        _ = self.fingerprint  # not later, when other files may be there
        if self.found_as and self.found_as != _identity(self.graph, self.params):
            raise ModelLoadError(f"The model {self.name} was replaced while it was loaded")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (16 hex digits) of everything that determines an alpha; caches use it as key."""
        digest = hashlib.sha256(self.graph.read_bytes())
        digest.update(self.params.read_bytes())
        digest.update(json.dumps([self.transforms, self.postprocess], sort_keys=True).encode())
        return digest.hexdigest()[:16]


def find_model(settings: Settings) -> Model:
    """The model that MATTING_MODEL names: a folder, a name under `models_dir`, or a shipped one.

    Raises ModelLoadError when a file is missing or deploy.yaml is not one.
    """
    if settings.model == "builtin":
        folder = BUNDLES / "builtin"
    else:
        given, shipped = Path(settings.model), SHIPPED.get(settings.model)
        folder = given if given.is_dir() else settings.models_dir / settings.model
        if shipped is not None and not folder.is_dir():
            folder = shipped
    if not folder.is_dir():
        raise ModelLoadError(f"MATTING_MODEL={settings.model}: there is no folder {folder}")
    return read_export(folder, settings.model)


def read_export(folder: Path, name: str) -> Model:
    """Read a folder in PaddleSeg's export layout. Raises ModelLoadError."""
    # needs numpy, which `models list` does without
    from worker.inference.postprocess import checked_postprocess

    description = folder / "deploy.yaml"
    try:
        deploy = yaml.safe_load(description.read_text())["Deploy"]
        transforms = tuple(dict(step) for step in deploy["transforms"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ModelLoadError(f"{description} can't be read: {error!r}") from error
    # Newer exports contain model.json while their deploy.yaml still names model.pdmodel.
    graphs = [
        folder / str(deploy.get("model", "")),
        folder / "model.pdmodel",
        folder / "model.json",
    ]
    graph = next((path for path in graphs if path.is_file()), None)
    params = folder / str(deploy.get("params", "model.pdiparams"))
    if graph is None or not params.is_file():
        raise ModelLoadError(f"{folder} lacks the graph or the weights that deploy.yaml names")
    return Model(
        name,
        graph,
        params,
        transforms,
        _fixed_shape(deploy.get("input_shape")),
        one_at_a_time=_one_at_a_time(deploy.get("input_shape")),
        half_pixel_resize=deploy.get("half_pixel_resize") is True,
        bf16=deploy.get("bf16") is True,
        postprocess=checked_postprocess(deploy.get("postprocess", [])),
        found_as=_identity(graph, params),
    )


def _identity(*files: Path) -> tuple[tuple[int, int, int], ...]:
    try:
        known = [file.stat() for file in files]
    except OSError:  # it is being replaced
        return ()
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in known)


def _fixed_shape(shape: object) -> tuple[int, int] | None:
    """The fixed height and width. PaddleSeg writes `input_shape` as [N, C, H, W], with -1 for free
    sizes.
    """
    if not isinstance(shape, list) or len(shape) != 4:
        return None
    height, width = shape[2:]
    if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        return None
    return height, width


def _one_at_a_time(shape: object) -> bool:
    """Whether `input_shape` has a batch of 1 and no free sizes; -1 means any number."""
    return _fixed_shape(shape) is not None and isinstance(shape, list) and shape[0] == 1
