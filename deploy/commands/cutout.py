"""`matting cutout`: photos straight to cut-outs, by the worker's own pipeline, with no queue."""

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
    """Files in place of the object storage: keys are paths."""

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The file's bytes. Raises SourceNotFoundError."""
        try:
            return Path(key).read_bytes()
        except OSError as error:
            raise SourceNotFoundError(f"{key} can't be read: {error.strerror}") from error

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write the file whole or not at all. Raises StorageError."""
        path = Path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".part")
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"{key} can't be written: {error.strerror}") from error


def cut_out_files(photos: LocalPhotos, out: Path, options: Options, settings: Settings) -> int:
    """Do all of them; returns how many failed. Raises SetupError when the model can't start. Ends
    the process when one hangs in native code, which nothing else could stop.
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
    watchdog.start(_end_stuck)
    failed = 0
    try:
        with (
            closing(load_predictor(settings)) as predictor,
            closing(Pipeline(predictor, FolderStore(), settings, watchdog=watchdog)) as pipeline,
            ThreadPoolExecutor(settings.batches_in_flight) as drivers,
            bar("matting", len(items)) as progress,
        ):
            for outcomes in drivers.map(pipeline.run_many, batches):
                failed += _report(outcomes)
                for outcome in outcomes:
                    _rename(outcome, out, options)
                progress.advance(progress.task_ids[0], len(outcomes))
    finally:
        watchdog.stop()
    return failed


def _end_stuck(name: str | None, stage: str, limit_s: float) -> None:
    """Say which photo it was, and end. What was written by then is whole."""
    error = ImageTimeoutError(f"The stage {stage} took more than {limit_s:g} s")
    text = f"{name or 'a whole batch'}: {error.message} [{error.code}]"
    console.print(f"[red]failed[/] {escape(text)}")
    console.print("What is done stays. Take that photo away, and run the command again.")
    console.show_cursor()
    os._exit(1)


def _rename(outcome: Outcome, out: Path, options: Options) -> None:
    """Give what has a template its name; a name that is taken keeps the one it has."""
    templates = [options.name, *(extra.name for extra in options.extras)]
    for template, output in zip(templates, outcome.outputs, strict=False):
        target = out / output.name
        if template is not None and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(output.key).rename(target)


def _report(outcomes: Sequence[Outcome]) -> int:
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
