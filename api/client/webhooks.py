"""Webhook methods of the asynchronous client, available as `client.webhooks`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from api.client.calls import ApiCall, without_none
from api.client.connection import AsyncConnection, Page
from api.client.responses import Delivery, MadeWebhook, Webhook


class AsyncWebhooks:
    """Webhooks of all your jobs, and what was sent to them. Every method raises ApiError."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self,
        url: str,
        *,
        secret: str | None = None,
        events: Sequence[str] | None = None,
        progress_percent: int | None = None,
    ) -> MadeWebhook:
        """Register a URL for all your jobs. Store the `secret`: it is not shown again.

        `events` are of `job.finished`, `job.cancelled`, `job.paused`; None selects all of them.
        `progress_percent` also sends `job.progress` in steps of that many percent.
        """
        call = _create(url, secret, events, progress_percent)
        return cast(MadeWebhook, await self._connection.ask(call))

    async def list(self) -> list[Webhook]:
        """List the webhooks that apply to all your jobs."""
        found: list[Webhook] = (await self._connection.ask(ApiCall(path=_HOOKS)))["webhooks"]
        return found

    async def change(self, webhook_id: str, **changes: Any) -> Webhook:
        """Change `url`, `events`, `progress_percent`, or `enabled`."""
        return cast(Webhook, await self._connection.ask(_change(webhook_id, changes)))

    async def rotate(self, webhook_id: str) -> MadeWebhook:
        """Replace the secret. Deliveries carry both signatures for a while."""
        call = _post(_HOOKS, webhook_id, "rotate")
        return cast(MadeWebhook, await self._connection.ask(call))

    async def test(self, webhook_id: str) -> Delivery:
        """Send `webhook.test`."""
        return cast(Delivery, await self._connection.ask(_post(_HOOKS, webhook_id, "test")))

    async def delete(self, webhook_id: str) -> None:
        """Delete a webhook and its deliveries."""
        await self._connection.ask(_delete(webhook_id))

    def deliveries(
        self,
        *,
        webhook_id: str | None = None,
        job_id: str | None = None,
        status: str | None = None,
    ) -> AsyncIterator[Delivery]:
        """Deliveries, newest first; `status` is `pending`, `delivered` or `failed`."""
        return self._connection.pages(_page(webhook_id, job_id, status), "deliveries")

    async def delivery(self, delivery_id: str) -> Delivery:
        """One delivery with its attempts."""
        return cast(Delivery, await self._connection.ask(_find(delivery_id)))

    async def redeliver(self, delivery_id: str) -> Delivery:
        """Send a delivery again, whether it succeeded or failed."""
        call = _post(_DELIVERIES, delivery_id, "redeliver")
        return cast(Delivery, await self._connection.ask(call))


_HOOKS = "/v1/webhooks"
_DELIVERIES = "/v1/deliveries"


def _create(
    url: str, secret: str | None, events: Sequence[str] | None, progress_percent: int | None
) -> ApiCall:
    body: dict[str, Any] = {"url": url, "secret": secret, "progress_percent": progress_percent}
    if events is not None:
        body["events"] = list(events)
    return ApiCall(method="POST", path=_HOOKS, body=body)


def _change(webhook_id: str, changes: Mapping[str, Any]) -> ApiCall:
    return ApiCall(method="PATCH", path=f"{_HOOKS}/{webhook_id}", body=dict(changes))


def _delete(webhook_id: str) -> ApiCall:
    return ApiCall(method="DELETE", path=f"{_HOOKS}/{webhook_id}")


def _post(kind: str, one: str, verb: str) -> ApiCall:
    return ApiCall(method="POST", path=f"{kind}/{one}/{verb}")


def _find(delivery_id: str) -> ApiCall:
    return ApiCall(path=f"{_DELIVERIES}/{delivery_id}")


def _page(webhook_id: str | None, job_id: str | None, status: str | None) -> Page:
    return lambda cursor: ApiCall(
        path=_DELIVERIES,
        query=without_none(
            limit="200", webhook_id=webhook_id, job_id=job_id, status=status, cursor=cursor
        ),
    )
