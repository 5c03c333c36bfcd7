"""A caller who goes away from a file leaves no connection to the garbage collector."""

import threading
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import cv2
import numpy as np
import pytest
from anyio import to_thread
from fastapi import Response

from api.removebg.answers import render_result
from api.routes import item_files
from api.routes.streamed_photo import opened_photo, streamed_photo
from shared.errors import FileTooLargeError
from shared.jobs import ItemKind, ItemStatus
from shared.kept_files import matte_key
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.storage import Storage
from shared.storage_stream import ObjectStream

KEY = "jobs/gone/cut.png"
OUTPUT = {"width": 1_000, "height": 1_000}


def photo(resources: Any) -> Response:
    place = ObjectUrl(resources.storage.bucket, KEY)
    return streamed_photo(opened_photo(resources, place), "cut.png")


def matte(resources: Any, alpha: bool = False) -> Response:
    options = Options.model_validate(
        {"format": "png"} if alpha else {"format": "jpeg", "background": "#fff"}
    )
    item = SimpleNamespace(
        id=uuid.uuid4(), kind=ItemKind.PHOTO, status=ItemStatus.SUCCEEDED, result_key=KEY,
        outputs=None, version=1, options=options.model_dump(mode="json"),
    )  # fmt: skip
    found: Any = (item, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_files, "find_item", lambda *_: found)
        nobody: Any = None
        return item_files.get_matte(item.id, resources, nobody)


def removebg(resources: Any, as_json: bool = False) -> Response:
    size, data = resources.storage.open(resources.storage.bucket, KEY)
    return render_result(data, size, OUTPUT, kind="image/png", as_json=as_json)


@pytest.mark.parametrize("sent_first", [0, 1], ids=["at once", "in the middle"])
@pytest.mark.parametrize(
    "answer",
    [photo, matte, lambda r: matte(r, alpha=True), removebg, lambda r: removebg(r, as_json=True)],
    ids=["photo", "matte", "matte of a cut-out", "remove.bg", "remove.bg as JSON"],
)
def test_a_caller_who_goes_away_has_the_connection_closed_by_a_thread(
    answer: Callable[[Any], Response], sent_first: int, storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 4), np.uint8)
    file = bytes(cv2.imencode(".png", noise)[1])
    storage.put(KEY, file, "image/png")
    storage.put(matte_key(KEY), file, "image/png")
    closed: list[tuple[int, ObjectStream]] = []
    close = ObjectStream.close

    def note(stream: ObjectStream) -> None:
        closed.append((threading.get_ident(), stream))
        close(stream)

    monkeypatch.setattr(ObjectStream, "close", note)
    resources: Any = SimpleNamespace(
        storage=storage, settings=SimpleNamespace(max_image_bytes=len(file))
    )
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        await anyio.sleep(0)

    async def receive() -> dict[str, Any]:
        while sum(one["type"] == "http.response.body" for one in sent) < sent_first:
            await anyio.sleep(0)
        return {"type": "http.disconnect"}

    async def ask() -> int:
        response = await to_thread.run_sync(answer, resources)
        scope: Any = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await response(scope, receive, send)
        return threading.get_ident()

    loop = anyio.run(ask)
    assert closed
    assert loop not in [thread for thread, _ in closed]
    assert all(stream._body._raw_stream.closed for _, stream in closed)
    assert all(one.get("more_body", True) for one in sent), "it was not sent completely"


@pytest.mark.parametrize("answer", [photo, removebg], ids=["photo", "remove.bg"])
def test_an_answer_that_is_read_to_its_end_is_complete(
    answer: Callable[[Any], Response], storage: Storage
) -> None:
    file = bytes(range(256)) * 3_000
    storage.put(KEY, file, "image/png")
    resources: Any = SimpleNamespace(
        storage=storage, settings=SimpleNamespace(max_image_bytes=len(file))
    )
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def ask() -> None:
        scope: Any = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await answer(resources)(scope, receive, send)

    anyio.run(ask)
    assert b"".join(one.get("body", b"") for one in sent) == file
    assert not sent[-1]["more_body"]
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(file)).encode()


def test_a_photo_that_grew_too_large_is_closed_unread(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[ObjectStream] = []
    monkeypatch.setattr(ObjectStream, "close", lambda stream: closed.append(stream))
    storage.put(KEY, bytes(10), "image/png")
    resources: Any = SimpleNamespace(storage=storage, settings=SimpleNamespace(max_image_bytes=9))
    with pytest.raises(FileTooLargeError):
        photo(resources)
    assert len(closed) == 1
