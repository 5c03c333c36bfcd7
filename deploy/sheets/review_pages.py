"""Review pages of a job: before | after pairs, as PNG pages and as an HTML gallery.

The gallery is one file with embedded images, so people without access to the service can open it.
"""

import base64
import html
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from PIL import ImageDraw

from api.client import ApiError, Item, MattingClient
from deploy.sheets.contact_sheet import checkerboard, on_white_tile, shrink_to_fit
from shared.errors import NotKeptError
from shared.jobs import ItemKind, Reason
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.decoding import decode

PER_PAGE = 24
COLUMNS = 4
CAPTION_PX = 34
GALLERY_PX = 420
"""Longer side of the images in the gallery."""

FETCH_THREADS = 8


@dataclass(frozen=True)
class Pair:
    """A photo and its result."""

    number: int
    """Position on the pages, from 1."""
    item: Item
    before: Image
    after: Image
    """The result; transparent pixels show a checkerboard."""


def write_pages(
    client: MattingClient,
    job_id: str,
    out: Path,
    *,
    review: str | None,
    limit: int,
    on_done: Callable[[int], None] = lambda _count: None,
) -> list[Path]:
    """Write `page-001.png`, … and `gallery.html` for the job's succeeded images.

    `review` selects images by their review state. Images with the most review reasons come first.
    Returns the written files, or an empty list when there are no images.

    Raises ApiError, OSError.
    """
    items = list(
        islice(client.items(job_id, status="succeeded", review=review), None if review else limit)
    )
    items.sort(key=lambda item: -len(item["review_reasons"]))
    items = items[:limit]
    if not items:
        return []
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    cards: list[str] = []
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        for number, start in enumerate(range(0, len(items), PER_PAGE), start=1):
            chunk = items[start : start + PER_PAGE]
            numbers = range(start + 1, start + 1 + len(chunk))
            pairs = list(pool.map(partial(_load_pair, client), numbers, chunk))
            page = out / f"page-{number:03d}.png"
            PIL.Image.fromarray(_page(pairs)).save(page)
            written.append(page)
            cards += [_card(pair) for pair in pairs]
            on_done(len(chunk))
    gallery = out / "gallery.html"
    gallery.write_text(_gallery(job_id, items, cards), encoding="utf-8")
    return [*written, gallery]


def _load_pair(client: MattingClient, number: int, item: Item) -> Pair:
    if item["kind"] != ItemKind.PHOTO:
        strip, frame = (_small(client, item, of_photo=one) for one in (True, False))
        return Pair(number, item, _shown(strip), _shown(frame))
    source = client.content(f"/v1/items/{item['id']}/source")
    # Use the worker's decoder. Unconverted wide-gamut or CMYK colours would look like its error.
    before = decode(source, Settings(), min_side_px=GALLERY_PX).image
    data = client.content(f"/v1/items/{item['id']}/result")
    if item["result_format"] == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            after = _open_image(archive.read("color.jpg")).convert("RGB")
            after.putalpha(_open_image(archive.read("alpha.png")).convert("L"))
    else:
        after = _open_image(data)
    return Pair(number, item, shrink_to_fit(before, GALLERY_PX), _shown(after))


def _small(client: MattingClient, item: Item, *, of_photo: bool) -> PIL.Image.Image:
    """A frame or the strip of a clip or a turntable; grey, if the service keeps none."""
    try:
        return _open_image(client.results.thumbnail(item["id"], of_photo=of_photo))
    except ApiError as error:
        if error.code != NotKeptError.code:
            raise
        return PIL.Image.new("RGB", (GALLERY_PX, GALLERY_PX), "grey")


def _shown(picture: PIL.Image.Image) -> Image:
    """A picture as it is drawn: small, with a checkerboard behind transparent pixels."""
    rgba = shrink_to_fit(np.asarray(picture.convert("RGBA")), GALLERY_PX)
    share = rgba[..., 3:].astype(np.float32) / 255
    ground = checkerboard(*rgba.shape[:2])[..., None]
    return np.rint(rgba[..., :3] * share + ground * (1 - share)).astype(np.uint8)


def _open_image(data: bytes) -> PIL.Image.Image:
    picture = PIL.Image.open(io.BytesIO(data))
    picture.draft("RGB", (2 * GALLERY_PX, 2 * GALLERY_PX))
    return picture


def _page(pairs: Sequence[Pair]) -> Image:
    cells = [_cell(pair) for pair in pairs]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[i : i + COLUMNS], 1) for i in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows)


def _cell(pair: Pair) -> Image:
    tiles = np.concatenate(
        [on_white_tile(shrink_to_fit(pair.before)), on_white_tile(shrink_to_fit(pair.after))], 1
    )
    strip = PIL.Image.new("RGB", (tiles.shape[1], CAPTION_PX), "white")
    pen = ImageDraw.Draw(strip)
    pen.text((6, 2), f"{pair.number}  {str(pair.item['name'])[-66:]}", fill=(60, 60, 60))
    pen.text((6, 17), _review_text(pair.item)[:80], fill=(190, 40, 30))
    cell = np.concatenate([tiles, np.asarray(strip)])
    cell[-1], cell[:, -1] = 205, 205  # a grey line separates the pairs
    return cell


def _review_text(item: Item) -> str:
    said = f" · {item['verdict']}" if item["verdict"] else ""
    return ", ".join(item["review_reasons"]) + said


def _card(pair: Pair) -> str:
    name = html.escape(str(pair.item["name"]))
    unmet = [rule for output in pair.item["outputs"] for rule in output["unmet"]]
    rules = "".join(f"<li>{html.escape(rule)}</li>" for rule in unmet)
    return (
        f'<figure id="n{pair.number}" class="{" ".join(pair.item["review_reasons"])}">'
        f'<div><img alt="before" src="{_jpeg_data_url(pair.before)}">'
        f'<img alt="after" src="{_jpeg_data_url(pair.after)}"></div>'
        f"<figcaption>{pair.number} · {name}<b>{html.escape(_review_text(pair.item))}</b>"
        f"<ul>{rules}</ul></figcaption></figure>"
    )


def _jpeg_data_url(picture: Image) -> str:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _gallery(job_id: str, items: Sequence[Item], cards: Sequence[str]) -> str:
    return "\n".join(_gallery_lines(job_id, items, cards))


def _gallery_lines(job_id: str, items: Sequence[Item], cards: Sequence[str]) -> Iterator[str]:
    title = f"Job {html.escape(job_id)}: {len(cards)} images"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield f"<style>{STYLE}</style><h1>{title}</h1>"
    counts = Counter(reason for item in items for reason in item["review_reasons"])
    # Selecting a reason hides the images without it, with CSS only.
    for reason, count in counts.most_common():
        text = html.escape(REASON_TEXTS.get(reason, reason))
        yield f'<input type="radio" name="only" id="{reason}"><label for="{reason}">'
        yield f"{text} <i>{count}</i></label>"
        yield f"<style>#{reason}:checked~main figure:not(.{reason}){{display:none}}</style>"
    if counts:
        yield '<input type="radio" name="only" id="all" checked><label for="all">all</label>'
    yield "<main>"
    yield from cards
    yield "</main></html>"


REASON_TEXTS: dict[str, str] = {
    Reason.EMPTY: "almost no subject found",
    Reason.FULL: "almost no background found",
    Reason.CUT: "subject touches the border",
    Reason.PARTS: "many separate parts",
    Reason.SOFT: "half-transparent surfaces",
    Reason.LOW_CONTRAST: "subject and background have similar colours",
    Reason.UNSURE: "mirrored photo gives another result",
    Reason.BLURRED: "out of focus",
    Reason.SMALL: "few pixels",
    Reason.OUTSIDE: "does not fit the frame of its group",
    Reason.INCOMPLETE: "photos of the group are missing",
    Reason.REDONE: "made again after a rejection",
}

STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:24px;background:#f4f4f2;color:#222}
h1{font-size:18px}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(420px,1fr));gap:16px}
figure{margin:0;padding:10px;background:#fff;border-radius:6px}
figure div{display:grid;grid-template-columns:1fr 1fr;gap:6px;align-items:center}
img{width:100%;height:auto;display:block;outline:1px solid #ccc}
input{position:absolute;opacity:0}
label{display:inline-block;margin:0 8px 12px 0;padding:3px 12px;border-radius:14px}
label{background:#e2e2de}
input:checked+label{background:#333;color:#fff}
input:focus-visible+label{outline:2px solid #1a73e8}
i{font-style:normal;opacity:.65}
figcaption{margin-top:6px;overflow-wrap:anywhere}
b{display:block;color:#b3261e;font-weight:600}
ul{margin:4px 0 0;padding-left:18px;color:#555}
"""
