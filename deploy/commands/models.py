"""`matting models`: lists, downloads, imports, exports and evaluates models."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from deploy.commands.export_triton import export_triton
from deploy.commands.import_model import check_name, import_model, print_installed
from deploy.commands.progress import bar, print_table
from shared.options import Options, Profile
from shared.settings import Settings
from worker.inference.catalog import SHIPPED
from worker.inference.published_models import LICENCE, PUBLISHED_MODELS, PUBLISHED_ONNX

models_app = typer.Typer(no_args_is_help=True, help="List, download, import, evaluate models.")

COLUMNS = ("iou", "mae", "sad", "mse", "grad", "conn")
"""The metrics that `verify` prints."""


@models_app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List installed and downloadable models.

    Shows size, published metrics, licence, and the speed measured on this machine.
    """
    settings = Settings()
    here = dict(SHIPPED)
    if settings.models_dir.is_dir():
        folders = sorted(settings.models_dir.iterdir())
        here |= {one.name: one for one in folders if (one / "deploy.yaml").is_file()}
    found = [
        _model_row(name, here.get(name), settings)
        for name in {**here, **PUBLISHED_MODELS, **PUBLISHED_ONNX}
    ]
    if as_json:
        typer.echo(json.dumps(found))
        return
    titles = ["model", "size, MB", "SAD", "MSE", "V100 FPS", "images/s here", "licence"]
    print_table(titles, [["" if cell is None else str(cell) for cell in one.values()]
                         for one in found])  # fmt: skip
    typer.echo(
        "SAD and MSE (on PPM-AIM-195) and FPS (at 512 x 512) as published by PaddleSeg;"
        " `matting tune` measures images/s"
    )


def _model_row(name: str, folder: Path | None, settings: Settings) -> dict[str, Any]:
    from worker.inference.tuning import measured_speed

    known = PUBLISHED_MODELS.get(name)
    size = sum(one.stat().st_size for one in folder.iterdir() if one.is_file()) if folder else 0
    return {
        "model": name,
        "mb": round(size / 1e6, 1) if folder else None,
        "sad": known and known.sad,
        "mse": known and known.mse,
        "fps_v100": known and known.fps_v100,
        "images_per_s": measured_speed(settings.model_copy(update={"model": name})),
        "licence": _licence(name, folder),
    }


def _licence(name: str, folder: Path | None) -> str | None:
    """The licence of a published model, or the one recorded in an imported bundle."""
    if name in PUBLISHED_ONNX:
        return PUBLISHED_ONNX[name].licence
    if name in PUBLISHED_MODELS or name == "builtin":
        return LICENCE
    described = folder and yaml.safe_load((folder / "deploy.yaml").read_text())
    source = described.get("Source") if isinstance(described, dict) else None
    return source.get("licence") if isinstance(source, dict) else None


@models_app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="Model name, see `matting models list`.")],
    source: Annotated[
        str | None, typer.Option("--from", help="File or URL to use instead of the default URL.")
    ] = None,
) -> None:
    """Download a published model. A model that changed since its first download is rejected.

    ONNX files are imported, which takes minutes for large ones.
    """
    from deploy.models.onnx_files import pull_onnx
    from deploy.models.pull import pull

    settings = Settings()
    check_name(name)
    if source is None and name not in {**PUBLISHED_MODELS, **PUBLISHED_ONNX}:
        known = ", ".join([*PUBLISHED_MODELS, *PUBLISHED_ONNX])
        raise typer.BadParameter(
            f"{name} is not a published model. Published are {known}. Use --from for others"
        )
    is_local = source is not None and not source.startswith(("http://", "https://"))
    if source is not None and is_local and not Path(source).is_file():
        raise typer.BadParameter(f"{source} is no file", param_hint="--from")
    notes: list[str] = []
    with bar("fetching", 0, rate_in_note=True) as progress:

        def show(here: int, total: int) -> None:
            note = f"{here / 1e6:.1f} MB"
            progress.update(progress.task_ids[0], completed=here, total=total or None, note=note)

        if name in PUBLISHED_ONNX:
            published = PUBLISHED_ONNX[name]
            typer.echo(f"{name}: {published.licence}, {published.origin}", err=True)
            url = f"{settings.onnx_models_url.rstrip('/')}/{published.file}"
            new = pull_onnx(published, source or url, settings.models_dir, show)
            model, notes = new.model, new.sentences()
        else:
            url = f"{settings.models_url.rstrip('/')}/{name}.zip"
            model = pull(name, source or url, settings.models_dir, show)
    print_installed(settings, name, model.fingerprint, notes)


models_app.command("import")(import_model)
models_app.command("export-triton")(export_triton)


@models_app.command()
def verify(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with images/ and alphas/ (or masks/), or with NAME.jpg and NAME-alpha.png."
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="`builtin`, a name or a folder. Default: MATTING_MODEL.")
    ] = None,
    profile: Annotated[
        Profile, typer.Option(help="`exact` preprocesses as deploy.yaml says.")
    ] = Profile.FAST,
    refine: Annotated[bool, typer.Option(help="Refine edges at full size.")] = True,
    worst: Annotated[int, typer.Option(min=0, help="Number of worst photos to list.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Evaluate a model on your own photos.

    The photos need ground-truth alphas. Prints IoU, MAE, SAD, MSE, Grad and Conn.
    """
    from deploy.models.verify import find_pairs, summary
    from deploy.models.verify import verify as run
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
    typer.echo(f"{means['images_per_s']} images/s for prediction alone, with batch size 1")
