"""`matting cutout` for clips: one after the other, each with a bar that counts frames."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from api.client import NamedItem, result_names
from deploy.commands.cutout_plan import CutOut, Planned, record_keys, refuse_results_among_photos
from deploy.commands.progress import bar, console
from deploy.commands.result_files import ResultFolder
from deploy.commands.written_files import WrittenFiles
from deploy.local_photos import LocalPhotos
from deploy.terminal_text import escape
from shared.errors import BackgroundUnreadableError, ImageError, MattingError
from shared.object_url import ObjectUrl
from shared.options import CutOff, Options
from shared.result_names import NamedPhoto, file_name
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.quarantine import DecodeRequest, Quarantine
from worker.inference.predictor import Predictor, load_predictor
from worker.inference.tuning import batch_sizes
from worker.video.clip import cut_out_clip, passes
from worker.video.completing import ClipResult
from worker.video.probe import probe


def cut_out_clips(
    photos: LocalPhotos,
    out: Path,
    options: Options,
    settings: Settings,
    done: CutOut,
    *,
    overwrite: bool = False,
    target: Path | None = None,
    previews: bool = False,
) -> None:
    """Cut out the clips of `photos` into the folder `out`, and note in `done` what was written.

    Files that are there are kept or replaced as `cut_out_files` does. `target`: the path of the
    only clip's result. `previews`: write a poster and a strip beside each result. Raises
    ResultsAmongPhotosError, OSError when the folder can't be written, and SetupError when the
    model can't start.
    """
    if options.model is not None:
        settings = settings.model_copy(update={"model": options.model})
    settings = batch_sizes(settings)
    planned = _plan(photos, out, options, target)
    refuse_results_among_photos([path for one in planned for path in one.targets], photos, out)
    files = WrittenFiles(out, options, settings.model, target=target)
    results = [Path(file) for one in (*done.written, *done.kept) for file in one["files"]]
    originals = (*(path for path, _ in (*photos.clips, *photos.files)), *results)
    with ResultFolder(out, originals, overwrite=overwrite, is_own=files.wrote) as store:
        missing = done.still_missing(planned, store, files, options, overwrite=overwrite)
        if not missing:
            return
        store.prepare()
        console.print(f"loading the model {escape(settings.model)} …", soft_wrap=True)
        with closing(load_predictor(settings, warm_shapes=False)) as predictor:
            for clip in missing:
                try:
                    result = _cut_out(clip, predictor, options, settings, store)
                    staged = _staged(clip, result, options, store, previews)
                    files.begin(clip.source, clip.key, dict(staged))
                    for place, file in staged:
                        store.place(file, place)
                except MattingError as error:
                    done.note_failure(clip, error.code, error.message)
                    continue
                except OSError as error:
                    done.note_unwritten(clip, error)
                    continue
                placed = [place for place, _ in staged]
                files.note(clip.source, clip.key, placed)
                _say(clip, result, placed, done)
        files.save()


def _plan(photos: LocalPhotos, out: Path, options: Options, target: Path | None) -> list[Planned]:
    kinds = [one.effective_clip_format.extension for one in options.renditions]
    names = result_names(
        [NamedItem(name=name, result_format=kinds[0], outputs=[]) for _, name in photos.clips]
    )
    clips: list[Planned] = []
    keys = record_keys([name for _, name in photos.clips], names)
    for number, ((source, name), result, key) in enumerate(
        zip(photos.clips, names, keys, strict=True), 1
    ):
        beside = (f"{result}.{part}.{kind}" for part, kind in enumerate(kinds[1:], 1))
        targets = [out / result, *(out / one for one in beside)]
        clips.append(Planned(source, name, number, targets if target is None else [target], key))
    return clips


def _cut_out(
    clip: Planned, predictor: Predictor, options: Options, settings: Settings, store: ResultFolder
) -> ClipResult:
    keep_whole = options.clip_cut_off is CutOff.KEEP
    facts = probe(clip.source, settings, keep_whole=keep_whole)
    pictures = _background_pictures(options, settings, store)
    with bar("matting", facts.frames * passes(options)) as progress:
        task = progress.task_ids[0]
        progress.update(task, note=f"frames of {escape(clip.name)}")
        return cut_out_clip(
            clip.source,
            predictor,
            options,
            settings,
            store.staging / f"clip-{clip.number}",
            facts=facts,
            pictures=pictures,
            on_frames=lambda count: progress.advance(task, count),
        )


def _background_pictures(
    options: Options, settings: Settings, store: ResultFolder
) -> dict[str, Image]:
    """The decoded background pictures by URL. Raises BackgroundUnreadableError."""
    pictures: dict[str, Image] = {}
    with closing(Quarantine(settings)) as quarantine:
        for url in options.background_images():
            place = ObjectUrl.parse(url, "")
            try:
                data = store.get(place.bucket, place.key, settings.max_image_bytes)
                pictures[url] = quarantine.decode(data, DecodeRequest()).image
            except ImageError as error:
                raise BackgroundUnreadableError(f"{url}: {error.detail}") from error
    return pictures


def _staged(
    clip: Planned, result: ClipResult, options: Options, store: ResultFolder, previews: bool
) -> list[tuple[Path, Path]]:
    """The finished files, each behind its place. Raises OSError, BadResultNameError."""
    places = _named(clip, result, options, store)
    staged = list(zip(places, (file.path for file in result.files), strict=True))
    if previews:
        first, _ = staged[0]
        for kind, data in (("poster", result.poster), ("strip", result.strip)):
            file = store.staging / f"clip-{clip.number}.{kind}"
            file.write_bytes(data)
            staged.append((first.with_name(f"{first.stem}.{kind}.webp"), file))
    return staged


def _named(
    clip: Planned, result: ClipResult, options: Options, store: ResultFolder
) -> Iterator[Path]:
    photo = NamedPhoto(clip.name, number=clip.number)
    templates = [options.name, *(extra.name for extra in options.extras)]
    for template, file, target in zip(templates, result.files, clip.targets, strict=True):
        if template is None:
            yield target
        else:
            extension = file.path.suffix[1:]
            name = file_name(template, photo, extension, file.width, file.height)
            yield store.out / name


def _say(clip: Planned, result: ClipResult, placed: list[Path], done: CutOut) -> None:
    reasons = list(dict.fromkeys(one.reason.value for one in result.doubts))
    done.written.append(
        {
            "photo": str(clip.source),
            "files": [str(path) for path in placed],
            "needs_review": bool(reasons),
            "review_reasons": reasons,
            "unmet_rules": [],
            "clip": result.to_json(),
        }
    )
    spans = [
        f"{one.reason.value} {_clock(one.start_s)}-{_clock(one.end_s)}" for one in result.doubts
    ]
    to_check = f"  [yellow]to check:[/] {', '.join(spans)}" if spans else ""
    for index, path in enumerate(placed):
        name = escape(str(path))
        console.print(f"wrote {name}{to_check if index == 0 else ''}", soft_wrap=True)
    if result.without_effect:
        names = ", ".join(result.without_effect)
        console.print(f"[yellow]no effect on clips:[/] {names}", soft_wrap=True)
    if not result.whole:
        console.print(
            f"[yellow]cut off[/] {escape(clip.name)}: {result.frames:,} whole frames were cut out",
            soft_wrap=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
