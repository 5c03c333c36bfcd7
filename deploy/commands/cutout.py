"""`matting cutout`: runs the worker's pipeline on local files, without server and queue."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from rich.markup import escape

from api.client import NamedItem, result_names
from deploy.commands.progress import bar, console
from deploy.local_photos import LocalPhotos
from shared.errors import ImageTimeoutError, SourceNotFoundError, StorageError
from shared.options import Options
from shared.settings import Settings
from worker.concurrency.watchdog import Watchdog
from worker.inference.predictor import load_predictor
from worker.inference.tuning import batch_sizes
from worker.pipeline.pipeline import Outcome, Pipeline, WorkItem
from worker.pipeline.work_items import requested_outputs


class FolderStore:
    """Stores objects as local files; a key is a path."""

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """Read a file. Raises SourceNotFoundError."""
        try:
            return Path(key).read_bytes()
        except OSError as error:
            raise SourceNotFoundError(f"{key} can't be read: {error.strerror}") from error

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write a file atomically. Raises StorageError."""
        path = Path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".part")
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"{key} can't be written: {error.strerror}") from error


def cut_out_files(photos: LocalPhotos, out: Path, options: Options, settings: Settings) -> int:
    """Cut out photos into the folder `out`; returns the number of failed photos.

    Raises SetupError when the model can't start. If a photo hangs in native code, the process
    exits, because nothing else can stop that code.
    """
    if options.model is not None:
        settings = settings.model_copy(update={"model": options.model})
    settings = batch_sizes(settings)
    assert settings.batch_size is not None
    extension = options.format.extension
    names = result_names(
        [NamedItem(name=name, result_format=extension, outputs=[]) for _, name in photos.files]
    )
    extras = [(number, one.format.extension) for number, one in enumerate(options.extras, 1)]
    items = [
        WorkItem(
            item_id=name,
            bucket="",
            key=str(path),
            options=options,
            outputs=requested_outputs(
                options,
                [
                    str(out / result),
                    *(str(out / f"{result}.{number}.{kind}") for number, kind in extras),
                ],
            ),
            name=name,
        )
        for (path, name), result in zip(photos.files, names, strict=True)
    ]
    size = settings.batch_size
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    watchdog = Watchdog(settings.image_timeout_s)
    watchdog.start(_exit_on_hang)
    failed = 0
    try:
        with (
            closing(load_predictor(settings, warm_shapes=False)) as predictor,
            closing(Pipeline(predictor, FolderStore(), settings, watchdog=watchdog)) as pipeline,
            ThreadPoolExecutor(settings.batches_in_flight) as drivers,
            bar("matting", len(items)) as progress,
        ):
            for outcomes in drivers.map(pipeline.run_many, batches):
                failed += _print_failures(outcomes)
                for outcome in outcomes:
                    _rename_by_template(outcome, out, options)
                progress.advance(progress.task_ids[0], len(outcomes))
    finally:
        watchdog.stop()
    return failed


def _exit_on_hang(name: str | None, stage: str, limit_s: float) -> None:
    """Name the photo that hangs and exit. Files that are written already are complete."""
    error = ImageTimeoutError(f"The stage {stage} took more than {limit_s:g} s")
    text = f"{name or 'a whole batch'}: {error.message} [{error.code}]"
    console.print(f"[red]failed[/] {escape(text)}")
    console.print("Finished results are kept. Remove that photo and run the command again.")
    console.show_cursor()
    os._exit(1)


def _rename_by_template(outcome: Outcome, out: Path, options: Options) -> None:
    """Rename outputs that have a name template. Existing files are not overwritten."""
    templates = [options.name, *(extra.name for extra in options.extras)]
    for template, output in zip(templates, outcome.outputs, strict=False):
        target = out / output.name
        if template is not None and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(output.key).rename(target)


def _print_failures(outcomes: Sequence[Outcome]) -> int:
    bad = [outcome for outcome in outcomes if outcome.error]
    for outcome in bad:
        assert outcome.error is not None
        text = f"{outcome.item_id}: {outcome.error.message} [{outcome.error.code}]"
        console.print(f"[red]failed[/] {escape(text)}")
    for outcome in outcomes:
        for output in outcome.outputs:
            for rule in output.unmet:
                console.print(f"[yellow]rule[/]   {escape(f'{output.name}: {rule}')}")
    return len(bad)
