"""The parts of the synchronous client: webhooks, watched prefixes, and the mending of results."""

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from api.client.event_loop import EventLoopThread
from api.client.responses import Delivery, Item, MadeWebhook, Version, Watch, Webhook
from api.client.results import AsyncResults
from api.client.watches import AsyncWatches, WatchSettings
from api.client.webhooks import AsyncWebhooks


class Webhooks:
    """Webhooks of all your jobs, and what was sent to them. Every method raises ApiError."""

    def __init__(self, webhooks: AsyncWebhooks, loop: EventLoopThread) -> None:
        self._webhooks = webhooks
        self._loop = loop

    def create(
        self,
        url: str,
        *,
        secret: str | None = None,
        events: list[str] | None = None,
        progress_percent: int | None = None,
    ) -> MadeWebhook:
        """Register an address for all your jobs. Keep the `secret`: it is not shown again.

        `events`: of `job.finished`, `job.cancelled`, `job.paused`; None: all of them.
        `progress_percent`: send `job.progress` each time this share more of a job has ended.
        """
        return self._loop.run(
            self._webhooks.create,
            url,
            secret=secret,
            events=events,
            progress_percent=progress_percent,
        )

    def list(self) -> list[Webhook]:
        """The webhooks of all your jobs."""
        return self._loop.run(self._webhooks.list)

    def change(self, webhook_id: str, **changes: Any) -> Webhook:
        """Change `url`, `events`, `progress_percent`, or `enabled`."""
        return self._loop.run(self._webhooks.change, webhook_id, **changes)

    def rotate(self, webhook_id: str) -> MadeWebhook:
        """Replace the secret; for a while deliveries carry signatures of both."""
        return self._loop.run(self._webhooks.rotate, webhook_id)

    def test(self, webhook_id: str) -> Delivery:
        """Send `webhook.test`."""
        return self._loop.run(self._webhooks.test, webhook_id)

    def delete(self, webhook_id: str) -> None:
        """Remove a webhook with its deliveries."""
        self._loop.run(self._webhooks.delete, webhook_id)

    def deliveries(
        self,
        *,
        webhook_id: str | None = None,
        job_id: str | None = None,
        status: str | None = None,
    ) -> Iterator[Delivery]:
        """Deliveries, newest first; `status` is `pending`, `delivered` or `failed`."""
        return self._loop.iterate(
            self._webhooks.deliveries(webhook_id=webhook_id, job_id=job_id, status=status)
        )

    def delivery(self, delivery_id: str) -> Delivery:
        """One delivery with its attempts."""
        return self._loop.run(self._webhooks.delivery, delivery_id)

    def redeliver(self, delivery_id: str) -> Delivery:
        """Send a delivery again, whether it succeeded or failed."""
        return self._loop.run(self._webhooks.redeliver, delivery_id)


class Watches:
    """Prefixes whose new objects are cut out. Every method raises ApiError."""

    def __init__(self, watches: AsyncWatches, loop: EventLoopThread) -> None:
        self._watches = watches
        self._loop = loop

    def create(self, prefix: str, **settings: Unpack[WatchSettings]) -> Watch:
        """Watch `s3://bucket/prefix`. Each look that finds new objects submits one job."""
        return self._loop.run(self._watches.create, prefix, **settings)

    def list(self) -> list[Watch]:
        """Your watches, oldest first."""
        return self._loop.run(self._watches.list)

    def get(self, watch_id: str) -> Watch:
        """One watch."""
        return self._loop.run(self._watches.get, watch_id)

    def pause(self, watch_id: str) -> Watch:
        """Stop looking."""
        return self._loop.run(self._watches.pause, watch_id)

    def resume(self, watch_id: str) -> Watch:
        """Look again, at once."""
        return self._loop.run(self._watches.resume, watch_id)

    def look(self, watch_id: str) -> Watch:
        """Look soon, because objects have come."""
        return self._loop.run(self._watches.look, watch_id)

    def delete(self, watch_id: str) -> None:
        """Remove a watch. Its jobs stay."""
        self._loop.run(self._watches.delete, watch_id)


class Results:
    """Mend a matte, make a result again, go back to an earlier one. All methods raise ApiError."""

    def __init__(self, results: AsyncResults, loop: EventLoopThread) -> None:
        self._results = results
        self._loop = loop

    def item(self, item_id: str) -> Item:
        """The present state of an image."""
        return self._loop.run(self._results.item, item_id)

    def matte(self, item_id: str) -> tuple[bytes, str]:
        """The matte as a grey PNG, and the ETag that `put_matte` needs."""
        return self._loop.run(self._results.matte, item_id)

    def thumbnail(self, item_id: str, *, of_photo: bool = False) -> bytes:
        """A small WebP of the result, or of the photo."""
        return self._loop.run(self._results.thumbnail, item_id, of_photo=of_photo)

    def put_matte(self, item_id: str, png: bytes, etag: str) -> Item:
        """Replace the matte; the worker renders all outputs again. `etag`: of the matte that was
        changed, or `*`.
        """
        return self._loop.run(self._results.put_matte, item_id, png, etag)

    def redo(
        self,
        item_id: str,
        *,
        options: Mapping[str, Any] | None = None,
        model: str | None = None,
        subject: Mapping[str, Any] | None = None,
    ) -> Item:
        """Process the photo again; what is not given stays as it was."""
        return self._loop.run(
            self._results.redo, item_id, options=options, model=model, subject=subject
        )

    def versions(self, item_id: str) -> list[Version]:
        """The versions of the result, oldest first."""
        return self._loop.run(self._results.versions, item_id)

    def restore(self, item_id: str, number: int) -> Item:
        """Show an earlier version again."""
        return self._loop.run(self._results.restore, item_id, number)

    def wait(self, item_id: str, *, every_s: float = 0.3) -> Item:
        """Wait until no version of the result is being made; returns the item. If the last one
        failed, its `redo` says why.
        """
        return self._loop.run(self._results.wait, item_id, every_s=every_s)
