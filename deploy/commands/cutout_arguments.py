"""The arguments of `matting cutout`: folders, one file, or a pipe; and its last words."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from deploy.commands.arguments import check_options, parse_options, resolve_photos
from deploy.commands.cutout import cut_out_files
from deploy.commands.cutout_clips import cut_out_clips
from deploy.commands.cutout_plan import CutOut
from deploy.commands.progress import console
from deploy.commands.summary import Tally
from deploy.local_photos import LocalPhotos
from deploy.terminal_text import escape
from shared.clip_format import ClipFormat
from shared.clip_kinds import CLIP_ENDINGS
from shared.destination import given_placeholders, refuse_unknown
from shared.errors import UnknownPlaceholderError
from shared.options import OF_JOB_ONLY, Format, Options, Output
from shared.photo_kinds import PHOTO_ENDINGS
from shared.settings import Settings

PIPE = Path("-")

SUFFIXES = {f".{one.extension}": one for one in Format} | {".jpeg": Format.JPEG}
"""The format of a photo's result by the extension of its name."""

CLIP_SUFFIXES = {f".{one.extension}": one for one in reversed(ClipFormat)}
"""The same for clips. A `.mp4` is on a background, unless the options say `stacked`."""


NOT_WRITTEN = {
    *(PHOTO_ENDINGS | CLIP_ENDINGS) - SUFFIXES.keys() - CLIP_SUFFIXES.keys(),
    *(".gif", ".jxl", ".jp2", ".svg", ".pdf", ".eps", ".ico", ".tga", ".exr", ".psb", ".zip"),
}
"""Endings of pictures, clips and other files that a result can't have."""


def run_cutout(
    paths: list[Path],
    out: Path | None,
    pairs: list[str],
    settings: Settings,
    *,
    alpha_only: bool,
    overwrite: bool,
    as_json: bool,
    fail_on_review: bool,
    previews: bool,
) -> int:
    """Cut out what the arguments name; returns the exit status.

    Raises BadParameter, SetupError.
    """
    _refuse_addresses(paths)
    _refuse_other_formats(out)
    # The name of a file decides about the format, so its options are checked later.
    wanted = parse_options(pairs, check=not _is_file(out))
    if set(wanted) & set(OF_JOB_ONLY):
        raise typer.BadParameter(
            f"`{'` and `'.join(OF_JOB_ONLY)}` need the service: use `matting submit`"
        )
    if alpha_only:
        wanted["output"] = Output.ALPHA
    if PIPE in paths:
        return _pipe(paths, out, wanted, settings, overwrite=overwrite, as_json=as_json)
    if out is None:
        raise typer.BadParameter(
            "say where the results go: --out FOLDER, or --out cut.png for one photo"
        )
    photos = resolve_photos(paths, but_for=None if _is_file(out) else out, with_clips=True)
    done = _cut_out(photos, out, wanted, settings, overwrite=overwrite, previews=previews)
    if as_json:
        typer.echo(json.dumps({"written": done.written, "kept": done.kept, "failed": done.failed}))
    _print_sentence(done)
    to_check = any(one["needs_review"] or one["unmet_rules"] for one in done.written)
    return 1 if done.failed or photos.left_out or (fail_on_review and to_check) else 0


def _cut_out(
    photos: LocalPhotos,
    out: Path,
    wanted: dict[str, Any],
    settings: Settings,
    *,
    overwrite: bool,
    called: str | None = None,
    previews: bool = False,
) -> CutOut:
    if not _is_file(out):
        options = check_options(wanted)
        try:
            refuse_unknown(given_placeholders(None, options), ())
        except UnknownPlaceholderError as error:
            raise typer.BadParameter(error.detail) from error
        done = CutOut()
        if photos.files:
            done = cut_out_files(photos, out, options, settings, overwrite=overwrite)
        if photos.clips:
            cut_out_clips(
                photos, out, options, settings, done, overwrite=overwrite, previews=previews
            )
        return done
    if (count := len(photos.files) + len(photos.clips)) > 1:
        raise typer.BadParameter(
            f"--out {out} is the name of one file, but there are {count} photos and clips: name a"
            " folder"
        )
    if photos.clips:
        options = _options_for_clip(out, wanted)
        done = CutOut(called=called)
        cut_out_clips(
            photos,
            out.parent,
            options,
            settings,
            done,
            overwrite=overwrite,
            target=out,
            previews=previews,
        )
        return done
    options = _options_for(out, wanted)
    return cut_out_files(
        photos, out.parent, options, settings, overwrite=overwrite, target=out, called=called
    )


def _options_for(file: Path, wanted: dict[str, Any]) -> Options:
    """The options with the format that the file's name says. Raises BadParameter."""
    kind = SUFFIXES.get(file.suffix.lower())
    if kind is None:
        raise typer.BadParameter(f"--out {file.name} is the name of a clip, but this is a photo")
    options = check_options({**wanted, "format": wanted.get("format", kind)})
    if options.format is not kind:
        raise typer.BadParameter(f"--out {file.name} and format={options.format.value} differ")
    if len(options.renditions) > 1 or options.name is not None:
        raise typer.BadParameter("`name`, `extra_outputs` and `output=both` need a folder as --out")
    return options


def _options_for_clip(file: Path, wanted: dict[str, Any]) -> Options:
    """The options with the format of clips that the file's name says. Raises BadParameter."""
    kind = CLIP_SUFFIXES.get(file.suffix.lower())
    if kind is None:
        raise typer.BadParameter(f"--out {file.name} is the name of a photo, but this is a clip")
    options = check_options({**wanted, "clip_format": wanted.get("clip_format", kind)})
    if options.effective_clip_format.extension != kind.extension:
        chosen = options.effective_clip_format.value
        raise typer.BadParameter(f"--out {file.name} and clip_format={chosen} differ")
    if len(options.renditions) > 1 or options.name is not None:
        raise typer.BadParameter("`name`, `extra_outputs` and `output=both` need a folder as --out")
    return options


def _refuse_addresses(paths: Sequence[Path]) -> None:
    """Raise BadParameter for an address: this command reads local files."""
    for path in paths:
        if str(path).startswith(("http:/", "https:/", "s3:/")):
            raise typer.BadParameter(
                "`cutout` takes local files. For s3:// and https:// use `matting submit`, which"
                " needs `matting up`"
            )


def _refuse_other_formats(out: Path | None) -> None:
    """Raise BadParameter if `--out` names a file of a format that is not written."""
    if out is None or out.is_dir() or _is_file(out):
        return
    if out.suffix.lower() in NOT_WRITTEN:
        raise typer.BadParameter(
            f"--out {out.name}: results are not written as {out.suffix}, but as "
            f"{', '.join(dict.fromkeys((*SUFFIXES, *CLIP_SUFFIXES)))}"
        )


def _is_file(out: Path | None) -> bool:
    """Whether `--out` names a file: it ends as a picture or a clip does, and is no folder."""
    if out is None or out.is_dir():
        return False
    return out.suffix.lower() in SUFFIXES or out.suffix.lower() in CLIP_SUFFIXES


def _pipe(
    paths: list[Path],
    out: Path | None,
    wanted: dict[str, Any],
    settings: Settings,
    *,
    overwrite: bool,
    as_json: bool,
) -> int:
    """One photo from standard input, to standard output or to the file `out`."""
    if len(paths) > 1:
        raise typer.BadParameter("`-` stands for one photo: name no other photos")
    if out is None and (as_json or sys.stdout.isatty()):
        raise typer.BadParameter("redirect the result: cat a.jpg | matting cutout - > a.png")
    if out is not None and not _is_file(out):
        raise typer.BadParameter("with `-`, --out is the name of the result")
    with tempfile.TemporaryDirectory(prefix="matting-") as folder:
        photo = Path(folder) / "stdin"
        photo.write_bytes(sys.stdin.buffer.read(settings.max_image_bytes + 1))
        photos = LocalPhotos([(photo, "stdin")])
        extension = check_options(wanted).format.extension
        target = out or Path(folder) / f"result.{extension}"
        called = "the result to standard output" if out is None else None
        done = _cut_out(photos, target, wanted, settings, overwrite=overwrite, called=called)
        if done.written and out is None:
            sys.stdout.buffer.write(target.read_bytes())
            sys.stdout.buffer.flush()
    return 1 if done.failed else 0


def _print_sentence(done: CutOut) -> None:
    found = Tally(total=len(done.written) + len(done.failed), done=len(done.written))
    found.to_check = sum(one["needs_review"] for one in done.written)
    for one in done.written:
        found.add_rules(one["unmet_rules"], to_check=one["needs_review"])
    found.failed.update(one["code"] for one in done.failed)
    kept = f"; {len(done.kept):,} kept from before" if done.kept else ""
    console.print(escape(found.sentence() + kept), soft_wrap=True)
