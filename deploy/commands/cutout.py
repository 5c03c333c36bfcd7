"""`matting cutout`: runs the worker's pipeline on local files, without server and queue."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.markup import escape

from api.client import NamedItem, result_names
from deploy.commands.progress import bar, console
from deploy.commands.result_files import ResultFolder, TargetExistsError
from deploy.local_photos import LocalPhotos, printable
from shared.errors import ImageTimeoutError, ResultsAmongPhotosError
from shared.options import Options
from shared.settings import Settings
from worker.concurrency.watchdog import Watchdog
from worker.inference.predictor import load_predictor
from worker.inference.tuning import batch_sizes
from worker.pipeline.pipeline import Outcome, Pipeline, WorkItem
from worker.pipeline.work_items import requested_outputs


def cut_out_files(
    photos: LocalPhotos,
    out: Path,
    options: Options,
    settings: Settings,
    *,
    overwrite: bool = False,
) -> int:
    """Cut out photos into the folder `out`; returns the number of photos without a new result.

    No file that is there is replaced unless `overwrite` is set, and no photo ever. If a photo hangs
    in native code, the process exits, because nothing else can stop that code.

    Raises ResultsAmongPhotosError, and SetupError when the model can't start.
    """
    if options.model is not None:
        settings = settings.model_copy(update={"model": options.model})
    settings = batch_sizes(settings)
    assert settings.batch_size is not None
    with ResultFolder(out, (path for path, _ in photos.files), overwrite=overwrite) as store:
        targets = _targets(photos, out, options)
        _refuse_results_among_photos(targets, photos, out)
        wanted: list[tuple[WorkItem, list[Path]]] = []
        for number, ((path, name), paths) in enumerate(zip(photos.files, targets, strict=True)):
            try:
                if options.name is None:
                    store.check(paths[0])
            except OSError as error:
                _print_failure(name, f"{error} [file-exists]")
                continue
            staged = [
                str(store.staging / f"{number}.{part}{target.suffix}")
                for part, target in enumerate(paths)
            ]
            item = WorkItem(
                item_id=name,
                bucket="",
                key=str(path),
                options=options,
                outputs=requested_outputs(options, staged),
                name=name,
            )
            wanted.append((item, paths))
        failed = len(photos.files) - len(wanted)
        if not wanted:
            return failed
        size = settings.batch_size
        batches = [wanted[start : start + size] for start in range(0, len(wanted), size)]
        watchdog = Watchdog(settings.image_timeout_s)
        watchdog.start(partial(_exit_on_hang, store))
        try:
            with (
                closing(load_predictor(settings, warm_shapes=False)) as predictor,
                closing(Pipeline(predictor, store, settings, watchdog=watchdog)) as pipeline,
                ThreadPoolExecutor(settings.batches_in_flight) as drivers,
                bar("matting", len(wanted)) as progress,
            ):
                of_batches = drivers.map(
                    lambda batch: pipeline.run_many([item for item, _ in batch]), batches
                )
                for batch, outcomes in zip(batches, of_batches, strict=True):
                    for (_, paths), outcome in zip(batch, outcomes, strict=True):
                        failed += not _keep(outcome, paths, store, options)
                    progress.advance(progress.task_ids[0], len(outcomes))
        finally:
            watchdog.stop()
    return failed


def _targets(photos: LocalPhotos, out: Path, options: Options) -> list[list[Path]]:
    """The result files of each photo, the main one first; name templates may change them later."""
    extension = options.format.extension
    names = result_names(
        [NamedItem(name=name, result_format=extension, outputs=[]) for _, name in photos.files]
    )
    extras = [(number, one.format.extension) for number, one in enumerate(options.extras, 1)]
    return [
        [out / result, *(out / f"{result}.{number}.{kind}" for number, kind in extras)]
        for result in names
    ]


def _refuse_results_among_photos(targets: list[list[Path]], photos: LocalPhotos, out: Path) -> None:
    """Raise ResultsAmongPhotosError if the next run would take the results for photos."""
    searched = {folder.resolve() for folder in photos.folders}
    apart = out.resolve()
    for folder in {path.parent for paths in targets for path in paths}:
        place = folder.resolve()
        for root in searched & {place, *place.parents}:
            if root == apart or root not in apart.parents:
                raise ResultsAmongPhotosError(
                    f"The results would lie among the photos, in {folder}"
                )


def _exit_on_hang(store: ResultFolder, name: str | None, stage: str, limit_s: float) -> None:
    """Name the photo that hangs and exit. Files that are written already are complete."""
    error = ImageTimeoutError(f"The stage {stage} took more than {limit_s:g} s")
    text = f"{name or 'a whole batch'}: {error.message} [{error.code}]"
    console.print(f"[red]failed[/] {escape(text)}")
    console.print("Finished results are kept. Remove that photo and run the command again.")
    console.show_cursor()
    store.close()
    os._exit(1)


def _keep(outcome: Outcome, targets: list[Path], store: ResultFolder, options: Options) -> bool:
    """Give the results of a photo their names; whether it has a result."""
    if outcome.error is not None:
        _print_failure(outcome.item_id, f"{outcome.error.message} [{outcome.error.code}]")
        return False
    templates = [options.name, *(extra.name for extra in options.extras)]
    for template, output, target in zip(templates, outcome.outputs, targets, strict=True):
        try:
            store.place(Path(output.key), target if template is None else store.out / output.name)
        except OSError as error:
            reason = error if isinstance(error, TargetExistsError) else error.strerror
            _print_failure(outcome.item_id, f"{reason} [not-written]")
            return False
        for rule in output.unmet:
            console.print(f"[yellow]rule[/]   {escape(f'{output.name}: {rule}')}")
    return True


def _print_failure(name: str, text: str) -> None:
    console.print(f"[red]failed[/] {escape(f'{printable(name)}: {text}')}")
