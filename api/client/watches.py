"""Watch methods of the asynchronous client, available as `client.watches`."""

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack, cast

from api.client.calls import ApiCall
from api.client.connection import AsyncConnection
from api.client.responses import Watch

_PATH = "/v1/watches"


class WatchSettings(TypedDict, total=False):
    """The fields of `POST /v1/watches` except the prefix."""

    options: Mapping[str, Any]
    destination: str | None
    priority: int
    metadata: Mapping[str, str]
    every_s: int
    existing: bool
    ascending: bool


class AsyncWatches:
    """Prefixes whose new objects are cut out. Every method raises ApiError."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(self, prefix: str, **settings: Unpack[WatchSettings]) -> Watch:
        """Watch `s3://bucket/prefix`. Each look that finds new objects submits one job."""
        body = {"prefix": prefix, **settings}
        return cast(
            Watch, await self._connection.ask(ApiCall(method="POST", path=_PATH, body=body))
        )

    async def list(self) -> list[Watch]:
        """Your watches, oldest first."""
        found: list[Watch] = (await self._connection.ask(ApiCall(path=_PATH)))["watches"]
        return found

    async def get(self, watch_id: str) -> Watch:
        """One watch."""
        return cast(Watch, await self._connection.ask(ApiCall(path=f"{_PATH}/{watch_id}")))

    async def pause(self, watch_id: str) -> Watch:
        """Stop looking."""
        return cast(Watch, await self._connection.ask(_post(watch_id, "pause")))

    async def resume(self, watch_id: str) -> Watch:
        """Look again, at once."""
        return cast(Watch, await self._connection.ask(_post(watch_id, "resume")))

    async def look(self, watch_id: str) -> Watch:
        """Look soon, because objects have come."""
        return cast(Watch, await self._connection.ask(_post(watch_id, "look")))

    async def delete(self, watch_id: str) -> None:
        """Remove a watch. Its jobs stay."""
        await self._connection.ask(ApiCall(method="DELETE", path=f"{_PATH}/{watch_id}"))


def _post(watch_id: str, verb: str) -> ApiCall:
    return ApiCall(method="POST", path=f"{_PATH}/{watch_id}/{verb}")
