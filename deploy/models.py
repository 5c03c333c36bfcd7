"""`matting models`: what can be run, and how good it is on one's own photos."""

import json
from pathlib import Path
from typing import Annotated

import typer

from deploy.progress import bar, print_table
from shared.options import Options, Profile
from shared.settings import Settings

models_app = typer.Typer(no_args_is_help=True, help="The models.")

COLUMNS = ("iou", "mae", "sad", "mse", "grad", "conn")


@models_app.callback()
def _models() -> None:
    """Keep `verify` a command of its own, however few there are."""


@models_app.command()
def verify(
    folder: Annotated[
        Path, typer.Argument(help="images/ with alphas/ (or masks/), or NAME.jpg + NAME-alpha.png.")
    ],
    model: Annotated[
        str | None, typer.Option(help="`builtin`, a name or a folder; none: MATTING_MODEL.")
    ] = None,
    profile: Annotated[Profile, typer.Option(help="`exact` follows deploy.yaml.")] = Profile.FAST,
    refine: Annotated[bool, typer.Option(help="Refine edges at full size.")] = True,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst to name.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a model against true alphas: IoU, MAE, SAD, MSE, Grad, Conn."""
    from deploy.verify import find_pairs, summary
    from deploy.verify import verify as run
    from shared.telemetry import configure_logging

    changed = {"log_level": "ERROR"} | ({"model": model} if model else {})
    settings = Settings().model_copy(update=changed)
    configure_logging(settings)
    options = Options(profile=profile, refine=refine)
    pairs = find_pairs(folder)
    results = []
    with bar("measuring", len(pairs)) as progress:
        for result in run(pairs, settings, options):
            results.append(result)
            progress.advance(progress.task_ids[0])
    means = summary(results)
    results.sort(key=lambda one: one.scores.iou)
    if as_json:
        named = [{"name": one.name, "iou": round(one.scores.iou, 4)} for one in results[:worst]]
        typer.echo(json.dumps({"model": settings.model, **means, "worst": named}))
        return
    rows = [
        ["mean", *(str(means[name]) for name in COLUMNS)],
        *(
            [one.name, *(f"{getattr(one.scores, name):.4f}" for name in COLUMNS)]
            for one in results[:worst]
        ),
    ]
    print_table([f"{settings.model} ({len(results)})", *COLUMNS], rows)
    typer.echo(f"{means['images_per_s']} images/s in the bare predictor, one at a time")
