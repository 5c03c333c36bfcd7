"""`matting models import`: converts an ONNX file to a model that the worker can serve."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.settings import Settings
from worker.inference.importing.recipe import LIKE, Recipe


def import_model(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An ONNX file.")],
    name: Annotated[str, typer.Option(help="Name of the new model.")],
    like: Annotated[
        str | None,
        typer.Option(help=f"A known network with the same preprocessing: {', '.join(LIKE)}."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Input size: 1024, or 768x1024 (height x width).")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Mean of the normalisation: 0.5, or 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(help="Standard deviation of the normalisation: 0.5, or 0.229,0.224,0.225."),
    ] = None,
    rescale: Annotated[
        str | None,
        typer.Option(help="Divisor of pixels: 255, or `max` (the photo's maximum)."),
    ] = None,
    sigmoid: Annotated[
        bool | None,
        typer.Option("--sigmoid/--no-sigmoid", help="Apply a sigmoid: the network returns logits."),
    ] = None,
    stretch: Annotated[
        bool | None,
        typer.Option("--stretch/--no-stretch", help="Stretch each alpha linearly to 0..1."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Name of the network's output. Default: the first.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence to record with the model.")] = None,
) -> None:
    """Import an ONNX network as a model. The result is compared with onnxruntime."""
    from deploy.models.onnx_files import import_file

    settings = Settings()
    check_name(name)
    recipe = recipe_of(like, size, mean, std, rescale, sigmoid, stretch)
    about = {"licence": licence} if licence else None
    new = import_file(name, file, recipe, settings.models_dir, output=output, source=about)
    print_installed(settings, name, new.model.fingerprint, new.sentences())


def recipe_of(
    like: str | None,
    size: str | None,
    mean: str | None,
    std: str | None,
    rescale: str | None,
    sigmoid: bool | None,
    stretch: bool | None,
) -> Recipe:
    """Build the recipe from the command's options. They override the values of `like`.

    Raises BadParameter.
    """
    if like is not None and like not in LIKE:
        raise typer.BadParameter(f"{like!r} is not one of {', '.join(LIKE)}", param_hint="--like")
    if like is None and None in (size, mean, std):
        raise typer.BadParameter("Pass --like, or all of --size, --mean and --std")
    if rescale not in (None, "255", "max"):
        raise typer.BadParameter(f"{rescale!r} is not 255 or max", param_hint="--rescale")
    given: dict[str, Any] = {
        "size": size and _size(size),
        "mean": mean and _three(mean, "--mean"),
        "std": std and _three(std, "--std"),
        "divide_by_max": rescale and rescale == "max",
        "sigmoid": sigmoid,
        "stretch": stretch,
    }
    changed = {key: value for key, value in given.items() if value is not None}
    return replace(LIKE[like], **changed) if like else Recipe(**changed)


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a size", param_hint="--size")
    return int(parts[0]), int(parts[-1])


def _three(text: str, option: str) -> tuple[float, float, float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a number", param_hint=option) from error
    if len(numbers) not in (1, 3) or (option == "--std" and min(numbers) <= 0):
        raise typer.BadParameter("Pass one or three numbers; std above 0", param_hint=option)
    return numbers[0], numbers[len(numbers) // 2], numbers[-1]


def check_name(name: str) -> None:
    """Raise BadParameter for a name that can't be a folder and a queue, and for `builtin`."""
    from shared.options import MODEL_NAME

    if not MODEL_NAME.fullmatch(name) or name == "builtin":
        raise typer.BadParameter(f"{name!r} is not a valid model name")


def print_installed(settings: Settings, name: str, fingerprint: str, notes: list[str]) -> None:
    """Print notes about a new model, and how to use it."""
    for note in notes:
        typer.echo(note)
    typer.echo(f"{settings.models_dir / name} ({fingerprint}): set MATTING_MODEL={name} to use it")
