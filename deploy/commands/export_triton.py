"""`matting models export-triton`: writes a model repository for NVIDIA Triton."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from shared.settings import Settings


class TritonDevice(StrEnum):
    """Where the server runs the network."""

    GPU = "gpu"
    CPU = "cpu"


def export_triton(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Folder of the repository.")],
    models: Annotated[
        str | None,
        typer.Option(help="Models, separated by commas. Default: all that a worker loads."),
    ] = None,
    device: Annotated[
        TritonDevice, typer.Option(help="Where the server runs the network.")
    ] = TritonDevice.GPU,
    instances: Annotated[
        int, typer.Option(min=1, max=16, help="Instances on each GPU, or on the CPU.")
    ] = 1,
    delay_ms: Annotated[
        float, typer.Option(min=0, max=1_000, help="How long a batch that is not full waits.")
    ] = 5,
) -> None:
    """Write a model repository that stock NVIDIA Triton serves.

    Workers use it with MATTING_DEVICE=triton (docs/triton.md). A model that changed gets a new
    version beside the old one. All models use Triton's Python backend with Paddle, also those
    imported from ONNX, as a bundle keeps no ONNX file.
    """
    from deploy.triton.repository import export

    settings = Settings()
    names = [one.strip() for one in models.split(",")] if models else settings.served_models
    for name in filter(None, names):
        own = settings.model_copy(update={"model": name})
        written = export(folder, own, device.value, instances=instances, delay_ms=delay_ms)
        typer.echo(f"{written}: {', '.join(sorted(one.name for one in written.iterdir()))}")
    typer.echo(f"serve it: tritonserver --model-repository {folder} (docs/triton.md)")
