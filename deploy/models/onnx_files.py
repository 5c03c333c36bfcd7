"""Installation of models from ONNX files, local or published."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local_photos import SAMPLES
from deploy.models.download import OnProgress
from deploy.models.pull import fetch_checked, install
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.decoding import decode
from worker.inference.catalog import Model
from worker.inference.importing.check import Bf16Result
from worker.inference.importing.importer import Imported, import_onnx
from worker.inference.importing.recipe import LIKE, Recipe
from worker.inference.published_models import PublishedOnnx


@dataclass(frozen=True)
class NewModel:
    """A model that was imported from an ONNX file."""

    model: Model
    imported: Imported

    def sentences(self) -> list[str]:
        """What a user should know about the import, one sentence each."""
        found = self.imported.agreement
        lines = [
            f"largest difference from onnxruntime: {found.worst:.1e}, on"
            f" {len(sample_photos())} photos"
        ]
        if found.onednn_fails:
            lines.append(f"the model runs without oneDNN, slowly: {found.onednn_fails}")
        if not self.imported.free_batch:
            lines.append("the model predicts one photo at a time")
        return [*lines, bf16_sentence(found.bf16)]


def import_file(
    name: str,
    file: Path,
    recipe: Recipe,
    models_dir: Path,
    *,
    output: str | None = None,
    source: dict[str, Any] | None = None,
) -> NewModel:
    """Import the ONNX network in `file` as the model `name`.

    Raises the errors of `import_onnx`; an existing model stays installed then.
    """
    done: list[Imported] = []

    def write(folder: Path) -> None:
        imported = import_onnx(file, recipe, folder, sample_photos(), output=output, source=source)
        (folder / "README.md").write_text(card(name, imported, source or {}))
        done.append(imported)

    model = install(name, models_dir, write)
    return NewModel(model, done[0])


def pull_onnx(
    published: PublishedOnnx,
    source: str,
    models_dir: Path,
    on_progress: OnProgress = lambda *_: None,
) -> NewModel:
    """Download a published ONNX file from `source` (a URL or a local file) and import it.

    Raises ModelDownloadError, ModelChangedError and the errors of `import_onnx`.
    """
    name = published.name
    about = {"licence": published.licence, "from": published.origin}
    with fetch_checked(
        name, source, models_dir, on_progress, md5=published.md5, licence=published.licence
    ) as (file, _found):
        return import_file(
            name,
            file,
            LIKE[published.like],
            models_dir,
            source={"file": published.file, **about},
        )


def sample_photos() -> list[Image]:
    """The sample photos of the repository, used to check an import. Each is [H, W, 3] uint8 RGB."""
    settings = Settings()
    return [decode(one.read_bytes(), settings).image for one in sorted(SAMPLES.glob("*.jpg"))]


def bf16_sentence(bf16: Bf16Result | None) -> str:
    """Whether the model runs in bf16, and why."""
    if bf16 is None:
        return "the model runs in fp32: bf16 fails or was not tried (tiny network, or no bf16 here)"
    found = f"{bf16.gain:.1f} times as fast, alphas {bf16.mean:.1e} away on average"
    return f"the model runs in {'bf16' if bf16.pays else 'fp32'}; in bf16: {found}"


def card(name: str, imported: Imported, source: dict[str, Any]) -> str:
    """The bundle's README: its source, its licence, and the accuracy of the import."""
    found = imported.agreement
    onednn = found.onednn_fails or f"{found.onednn:.1e}"
    return (
        f"# {name}\n\n"
        "Imported from ONNX by `matting models import`.\n\n"
        f"- **Source** {source.get('from', 'a file of yours')}\n"
        f"- **Licence** {source.get('licence', 'not recorded')}\n"
        f"- **SHA-256** of the ONNX file: `{imported.sha256}`\n"
        f"- **Largest difference** from onnxruntime at the network's output, on "
        f"{len(sample_photos())} photos: {found.plain:.1e} plain; with oneDNN: {onednn}\n"
        f"- **Batches** {'any size' if imported.free_batch else 'one photo at a time'}\n"
        f"- **Precision** {bf16_sentence(found.bf16)}\n"
    )
