"""The models: built in, or a folder that holds what PaddleSeg's exporter writes."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from shared.errors import ModelLoadError
from shared.settings import Settings

BUNDLES = Path(__file__).parents[1] / "bundles"


@dataclass(frozen=True)
class Model:
    """A model on disk: its graph, its weights, and the preprocessing of its deploy.yaml."""

    name: str
    graph: Path
    """model.pdmodel, or model.json of newer exports."""
    params: Path
    transforms: tuple[dict[str, Any], ...]
    """`Deploy.transforms` in order: each a `type` and its parameters."""
    fixed_shape: tuple[int, int] | None = None
    """Height and width, if deploy.yaml says that the export takes no other."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of graph and weights, 16 hex digits: what caches are keyed by."""
        digest = hashlib.sha256(self.graph.read_bytes())
        digest.update(self.params.read_bytes())
        return digest.hexdigest()[:16]


def find_model(settings: Settings) -> Model:
    """The model that MATTING_MODEL names: `builtin`, a folder, or a name under `models_dir`.

    Raises ModelLoadError when a file is missing or deploy.yaml is not one.
    """
    if settings.model == "builtin":
        folder = BUNDLES / "builtin"
    else:
        given = Path(settings.model)
        folder = given if given.is_dir() else settings.models_dir / settings.model
    if not folder.is_dir():
        raise ModelLoadError(f"MATTING_MODEL={settings.model}: there is no folder {folder}")
    return read_export(folder, settings.model)


def read_export(folder: Path, name: str) -> Model:
    """Read a folder in PaddleSeg's export layout. Raises ModelLoadError."""
    description = folder / "deploy.yaml"
    try:
        deploy = yaml.safe_load(description.read_text())["Deploy"]
        transforms = tuple(dict(step) for step in deploy["transforms"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ModelLoadError(f"{description} can't be read: {error!r}") from error
    # Newer exports write model.json while their deploy.yaml still says model.pdmodel.
    graphs = [
        folder / str(deploy.get("model", "")),
        folder / "model.pdmodel",
        folder / "model.json",
    ]
    graph = next((path for path in graphs if path.is_file()), None)
    params = folder / str(deploy.get("params", "model.pdiparams"))
    if graph is None or not params.is_file():
        raise ModelLoadError(f"{folder} lacks the graph or the weights that deploy.yaml names")
    return Model(name, graph, params, transforms, _fixed_shape(deploy.get("input_shape")))


def _fixed_shape(shape: object) -> tuple[int, int] | None:
    """PaddleSeg's exporter writes `input_shape` as [N, C, H, W], with -1 for what is free."""
    if not isinstance(shape, list) or len(shape) != 4:
        return None
    height, width = shape[2:]
    if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        return None
    return height, width
