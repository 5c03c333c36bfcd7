"""Imports an ONNX file as a checked bundle."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from worker.imaging.arrays import Image
from worker.inference.importing import operators  # noqa: F401  # fills the table of the walk
from worker.inference.importing.bundle import write_bundle
from worker.inference.importing.check import Agreement, check
from worker.inference.importing.graph import read_graph
from worker.inference.importing.recipe import Recipe


@dataclass(frozen=True)
class Imported:
    """The result of an import."""

    agreement: Agreement
    free_batch: bool
    sha256: str
    """SHA-256 of the ONNX file."""


def import_onnx(
    file: Path,
    recipe: Recipe,
    folder: Path,
    photos: Sequence[Image],
    *,
    output: str | None = None,
    source: dict[str, Any] | None = None,
) -> Imported:
    """Write the network of `file` as a bundle into the empty `folder`, and check it on `photos`.

    `output` is the answer's name; None takes the first. `source` is what the caller knows about the
    file (address, licence). deploy.yaml keeps it with the file's SHA-256. Raises
    ImportingUnavailableError, BadOnnxError, UnsupportedOperatorError or ImportDisagreesError. After
    an error the folder's contents can't be used.
    """
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    graph = read_graph(file, recipe.size, output)
    noted = {"file": file.name, **(source or {}), "sha256": sha256}
    free = write_bundle(graph, recipe, folder, noted)
    answer, half = graph.output, graph.half
    del graph  # it takes a gigabyte for the largest networks
    agreement = check(file, answer, folder, photos, half=half)
    if free and not agreement.batch:
        free = False
        _one_at_a_time(folder / "deploy.yaml")
    return Imported(agreement, free, sha256)


def _one_at_a_time(description: Path) -> None:
    """Note in deploy.yaml that the network takes one photo at a time: in a batch it computes other
    alphas.
    """
    known = yaml.safe_load(description.read_text())
    known["Deploy"]["input_shape"][0] = 1
    description.write_text(yaml.safe_dump(known, sort_keys=False, allow_unicode=True))
