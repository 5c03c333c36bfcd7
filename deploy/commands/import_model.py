"""`matting models import`: an ONNX file becomes a model."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.settings import Settings
from worker.inference.importing.recipe import LIKE, Recipe


def import_model(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An ONNX file.")],
    name: Annotated[str, typer.Option(help="What the model is to be called.")],
    like: Annotated[
        str | None, typer.Option(help=f"A network that is fed as this one: {', '.join(LIKE)}.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Of its input: 1024, or 768x1024 (H x W).")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Of 0..1: 0.5, or 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, typer.Option(help="Of 0..1: 0.5, or 0.229,0.224,0.225.")] = None,
    rescale: Annotated[
        str | None, typer.Option(help="What pixels are divided by: 255, or `max`, the photo's own.")
    ] = None,
    sigmoid: Annotated[
        bool | None, typer.Option("--sigmoid/--no-sigmoid", help="It answers with logits.")
    ] = None,
    stretch: Annotated[
        bool | None,
        typer.Option("--stretch/--no-stretch", help="Its least is meant as 0, its most as 1."),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Which output; none: the first.")] = None,
    licence: Annotated[str | None, typer.Option(help="To be recorded with the model.")] = None,
) -> None:
    """Make an ONNX network a model that the worker serves; checked against onnxruntime."""
    from deploy.models.onnx_files import import_file

    settings = Settings()
    check_name(name)
    recipe = recipe_of(like, size, mean, std, rescale, sigmoid, stretch)
    about = {"licence": licence} if licence else None
    new = import_file(name, file, recipe, settings.models_dir, output=output, source=about)
    tell(settings, name, new.model.fingerprint, new.sentences())


def recipe_of(
    like: str | None,
    size: str | None,
    mean: str | None,
    std: str | None,
    rescale: str | None,
    sigmoid: bool | None,
    stretch: bool | None,
) -> Recipe:
    """The recipe of the command's options; each goes over that of `like`."""
    if like is not None and like not in LIKE:
        raise typer.BadParameter(f"{like!r} is not one of {', '.join(LIKE)}", param_hint="--like")
    if like is None and None in (size, mean, std):
        raise typer.BadParameter("Give --like, or all of --size, --mean and --std")
    if rescale not in (None, "255", "max"):
        raise typer.BadParameter("255 or max", param_hint="--rescale")
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
        raise typer.BadParameter(f"{text!r} is no size", param_hint="--size")
    return int(parts[0]), int(parts[-1])


def _three(text: str, option: str) -> tuple[float, float, float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} are no numbers", param_hint=option) from error
    if len(numbers) not in (1, 3) or (option == "--std" and min(numbers) <= 0):
        raise typer.BadParameter("One number or three; std above 0", param_hint=option)
    return numbers[0], numbers[len(numbers) // 2], numbers[-1]


def check_name(name: str) -> None:
    """Raises BadParameter for what can be no folder and no queue, and for `builtin`."""
    from shared.queue import MODEL_NAME

    if not MODEL_NAME.fullmatch(name) or name == "builtin":
        raise typer.BadParameter(f"{name!r} can't be a model's name")


def tell(settings: Settings, name: str, fingerprint: str, notes: list[str]) -> None:
    """Say what the new model is like, and how to run it."""
    for note in notes:
        typer.echo(note)
    typer.echo(f"{settings.models_dir / name} ({fingerprint}): MATTING_MODEL={name} runs it")
