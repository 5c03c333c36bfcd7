"""Methods of the asynchronous client for one image's result, available as `client.results`."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from api.client.calls import ApiCall
from api.client.connection import AsyncConnection
from api.client.responses import Item, Version


class AsyncResults:
    """Mend a matte, make a result again, go back to an earlier one. All methods raise ApiError."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def item(self, item_id: str) -> Item:
        """The present state of an image."""
        return cast(Item, await self._connection.ask(ApiCall(path=_path(item_id))))

    async def matte(self, item_id: str) -> tuple[bytes, str]:
        """The matte as a grey PNG, and the ETag that `put_matte` needs."""
        answer = await self._connection.file(_path(item_id, "matte"))
        return answer.content, answer.headers["etag"]

    async def thumbnail(self, item_id: str, *, of_photo: bool = False) -> bytes:
        """A small WebP of the result, or of the photo."""
        name = "photo-thumbnail" if of_photo else "thumbnail"
        return (await self._connection.file(_path(item_id, name))).content

    async def put_matte(self, item_id: str, png: bytes, etag: str) -> Item:
        """Replace the matte; the worker renders all outputs again. `etag`: of the matte that was
        changed, or `*`.
        """
        call = ApiCall(
            method="PUT",
            path=_path(item_id, "matte"),
            content=png,
            headers={"If-Match": etag, "Content-Type": "image/png"},
        )
        return cast(Item, await self._connection.ask(call))

    async def redo(
        self,
        item_id: str,
        *,
        options: Mapping[str, Any] | None = None,
        model: str | None = None,
        subject: Mapping[str, Any] | None = None,
    ) -> Item:
        """Process the photo again; what is not given stays as it was."""
        changes = {"options": options, "model": model, "subject": subject}
        body = {name: value for name, value in changes.items() if value is not None}
        call = ApiCall(method="POST", path=_path(item_id, "redo"), body=body)
        return cast(Item, await self._connection.ask(call))

    async def versions(self, item_id: str) -> list[Version]:
        """The versions of the result, oldest first."""
        answer = await self._connection.ask(ApiCall(path=_path(item_id, "versions")))
        return cast(list[Version], answer["versions"])

    async def restore(self, item_id: str, number: int) -> Item:
        """Show an earlier version again."""
        call = ApiCall(method="POST", path=_path(item_id, f"versions/{number}/restore"))
        return cast(Item, await self._connection.ask(call))

    async def wait(self, item_id: str, *, every_s: float = 0.3) -> Item:
        """Wait until no version of the result is being made; returns the item. If the last one
        failed, its `redo` says why.
        """
        while True:
            item = await self.item(item_id)
            if item["redo"] is None or item["redo"]["status"] != "waiting":
                return item
            await asyncio.sleep(every_s)


def _path(item_id: str, name: str = "") -> str:
    return f"/v1/items/{item_id}" + (f"/{name}" if name else "")
