"""`matting cutout`: runs the worker's pipeline on local files, without server and queue."""

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from api.client import NamedItem, result_names
from deploy.commands.cutout_plan import CutOut, Planned, record_keys, refuse_results_among_photos
from deploy.commands.progress import bar, console
from deploy.commands.result_files import ResultFolder
from deploy.commands.second_models import SecondModels
from deploy.commands.written_files import WrittenFiles
from deploy.local_photos import LocalPhotos
from deploy.terminal_text import escape
from shared.errors import ImageTimeoutError, StorageError
from shared.options import Options
from shared.result_names import NamedPhoto
from shared.settings import Settings
from worker.concurrency.watchdog import Watchdog
from worker.inference.engine import one_stream, streams
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
    target: Path | None = None,
    called: str | None = None,
) -> CutOut:
    """Cut out photos into the folder `out`, and say of each what was written.

    Complete results of an earlier run are kept, its outdated ones replaced. No other file that is
    there is replaced unless `overwrite` is set, and no photo ever. `target`: the path of the only
    photo's result, and `called`: what messages call it. If a photo hangs in native code, the
    process exits, because nothing else can stop that code.

    Raises ResultsAmongPhotosError, OSError when the folder can't be written, and SetupError when
    the model can't start.
    """
    second = SecondModels(settings, options, len(photos.files))
    if options.model is not None:
        settings = settings.model_copy(update={"model": options.model})
    # Nothing lies beside the results: thumbnails and mattes are for the pages in the browser.
    settings = batch_sizes(settings).model_copy(update={"thumbnails": False, "keep_mattes": False})
    planned = _plan(photos, out, options)
    if target is not None:
        planned = [replace(one, targets=[target]) for one in planned]
    targets = [path for one in planned for path in one.targets]
    refuse_results_among_photos(targets, photos, out)
    files = WrittenFiles(out, options, settings.model, target=None if called else target)
    done = CutOut(called=called)
    originals = (path for path, _ in photos.files)
    with ResultFolder(out, originals, overwrite=overwrite, is_own=files.wrote) as store:
        missing = done.still_missing(planned, store, files, options, overwrite=overwrite)
        if not missing:
            return done
        store.prepare()
        console.print(f"loading the model {escape(settings.model)} …", soft_wrap=True)
        if len(missing) == 1:
            settings = one_stream(settings)
        size, in_flight = _batches(settings)
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        keeping = threading.Lock()
        watchdog = Watchdog(settings.image_timeout_s)
        watchdog.start(partial(_exit_on_hang, store))
        try:
            with (
                closing(second),
                closing(load_predictor(settings, warm_shapes=False)) as predictor,
                closing(
                    Pipeline(predictor, store, settings, watchdog=watchdog, second=second.opinions)
                ) as pipeline,
                bar("matting", len(missing)) as progress,
                ThreadPoolExecutor(in_flight) as drivers,
            ):

                def cut_out(batch: Sequence[Planned]) -> None:
                    outcomes = pipeline.run_many([_item(options, one, store) for one in batch])
                    with keeping:
                        for planned, outcome in zip(batch, outcomes, strict=True):
                            _keep(planned, outcome, store, files, options, done)
                        progress.advance(progress.task_ids[0], len(batch))

                try:
                    deque(drivers.map(cut_out, batches), maxlen=0)
                except KeyboardInterrupt:
                    _finish_first(store)
                    raise
        finally:
            watchdog.stop()
        files.save()
    done.put_in_order(planned)
    return done


def _batches(settings: Settings) -> tuple[int, int]:
    """How many photos make a batch, and how many batches are in flight. A network that takes one
    photo at a time gains nothing from a batch: there no photo waits for another one, and those in
    flight are as many as keep the network and the codecs busy.
    """
    assert settings.batch_size is not None
    assert settings.predict_batch_size is not None
    if settings.predict_batch_size > 1:
        return settings.batch_size, settings.batches_in_flight
    busy = streams(settings) + 2 * settings.codec_threads
    return 1, min(busy, settings.batches_in_flight * settings.batch_size)


def _finish_first(store: ResultFolder) -> None:
    """After Ctrl-C: say that photos in progress are finished, and let another Ctrl-C end it."""
    console.print("stopping: photos in progress are finished first; Ctrl-C again stops at once")

    def stop(*_: object) -> None:
        console.show_cursor()
        store.close()
        os._exit(130)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _plan(photos: LocalPhotos, out: Path, options: Options) -> list[Planned]:
    extension = options.format.extension
    names = result_names(
        [NamedItem(name=name, result_format=extension, outputs=[]) for _, name in photos.files]
    )
    keys = record_keys([name for _, name in photos.files], names)
    extras = [(part, one.format.extension) for part, one in enumerate(options.extras, 1)]
    return [
        Planned(
            path,
            name,
            number,
            [out / result, *(out / f"{result}.{part}.{kind}" for part, kind in extras)],
            key,
        )
        for number, ((path, name), result, key) in enumerate(
            zip(photos.files, names, keys, strict=True), 1
        )
    ]


def _item(options: Options, planned: Planned, store: ResultFolder) -> WorkItem:
    staged = [
        str(store.staging / f"{planned.number}.{part}{target.suffix}")
        for part, target in enumerate(planned.targets)
    ]
    return WorkItem(
        item_id=planned.name,
        bucket="",
        key=str(planned.source),
        options=options,
        outputs=requested_outputs(options, staged),
        photo=NamedPhoto(planned.name, number=planned.number),
    )


def _exit_on_hang(store: ResultFolder, name: str | None, stage: str, limit_s: float) -> None:
    """Name the photo that hangs and exit. Files that are written already are complete."""
    error = ImageTimeoutError(f"The stage {stage} took more than {limit_s:g} s")
    text = f"{name or 'a whole batch'}: {error.message} [{error.code}]"
    console.print(f"[red]failed[/] {escape(text)}", soft_wrap=True)
    console.print(
        "Finished results are kept. Remove that photo and run the command again.", soft_wrap=True
    )
    console.show_cursor()
    store.close()
    os._exit(1)


def _keep(
    planned: Planned,
    outcome: Outcome,
    store: ResultFolder,
    files: WrittenFiles,
    options: Options,
    done: CutOut,
) -> None:
    """Give the results of a photo their names, and say what was written."""
    if isinstance(outcome.error, StorageError):  # its remedy is the service's
        done.note_failure(planned, "not-written", outcome.error.detail)
        return
    if outcome.error is not None:
        done.note_failure(planned, outcome.error.code, outcome.error.message)
        return
    places = list(_named(planned, outcome, store, options))
    staged = [Path(output.key) for output in outcome.outputs]
    try:
        files.begin(planned.source, planned.key, dict(zip(places, staged, strict=True)))
        for place, file in zip(places, staged, strict=True):
            store.place(file, place)
    except OSError as error:
        done.note_unwritten(planned, error)
        return
    files.note(planned.source, planned.key, places)
    _say(planned, outcome, places, done)


def _named(
    planned: Planned, outcome: Outcome, store: ResultFolder, options: Options
) -> Iterator[Path]:
    templates = [options.name, *(extra.name for extra in options.extras)]
    for template, output, target in zip(templates, outcome.outputs, planned.targets, strict=True):
        yield target if template is None else store.out / output.name


def _say(planned: Planned, outcome: Outcome, placed: Sequence[Path], done: CutOut) -> None:
    reasons = [reason.value for reason in outcome.review]
    done.written.append(
        {
            "photo": str(planned.source),
            "files": [str(path) for path in placed],
            "needs_review": bool(reasons),
            "review_reasons": reasons,
            "unmet_rules": [rule for output in outcome.outputs for rule in output.unmet],
        }
    )
    to_check = f"  [yellow]to check:[/] {', '.join(reasons)}" if reasons else ""
    for index, path in enumerate(placed):
        note = to_check if index == 0 else ""
        console.print(f"wrote {escape(done.called or str(path))}{note}", soft_wrap=True)
    for path, output in zip(placed, outcome.outputs, strict=True):
        for rule in output.unmet:
            line = escape(f"{done.called or path}: {rule}")
            console.print(f"[yellow]rule[/]   {line}", soft_wrap=True)
