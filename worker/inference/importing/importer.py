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
    one_at_a_time = free and not agreement.batch
    bf16 = agreement.bf16 is not None and agreement.bf16.pays
    _note(folder / "deploy.yaml", one_at_a_time=one_at_a_time, bf16=bf16)
    return Imported(agreement, free and not one_at_a_time, sha256)


def _note(description: Path, *, one_at_a_time: bool, bf16: bool) -> None:
    """Note in deploy.yaml that the network takes one photo at a time, because it computes other
    alphas in a batch; and that it may run in bf16.
    """
    known = yaml.safe_load(description.read_text())
    if one_at_a_time:
        known["Deploy"]["input_shape"][0] = 1
    if bf16:
        known["Deploy"]["bf16"] = True
    description.write_text(yaml.safe_dump(known, sort_keys=False, allow_unicode=True))
