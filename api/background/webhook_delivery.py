"""Delivers webhooks, as the Standard Webhooks specification defines.

The transaction that causes an event writes its deliveries to the database. One process at a time
sends them, one thread per delivery: one at a time to each webhook, in order while its receiver
accepts them, and a few at a time for each API key. After a crash a delivery is sent again with the
same `webhook-id`, so a receiver may get an event twice, but misses none.
"""

import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from shared import job_store
from shared.database import Database
from shared.errors import ForbiddenUrlError, MattingError, UrlNotFetchedError
from shared.job_store import Attempt, AttemptResult
from shared.leadership import Leadership
from shared.periodic_task import PeriodicTask
from shared.settings import Settings
from shared.telemetry import WEBHOOKS, get_logger
from shared.web import PostResponse, Web, WebLimits
from shared.webhooks import Outcome, retry_after_s, signed_headers

log = get_logger(__name__)

LEASE_NAME = "webhooks"
LEADER_LEASE_S = 5.0
"""Another process takes over if the lease was not renewed for this long."""

LOOK_EVERY_S = 0.5

AT_ONCE = 32
AT_ONCE_OF_KEY = 4
"""Most deliveries of one API key at a time."""

LEASE_SPARE_S = 5.0
"""Time beyond the limit of an attempt, for resolving the name and recording the result."""

BUSY = frozenset({429, 503})
"""Statuses whose `Retry-After` is respected."""

JITTER = 0.2
"""Waits are lengthened by up to this share, so that deliveries that failed together are not retried
together.
"""

PAGES_PER_ROUND = 20
"""Some thousand webhooks with due deliveries."""

FORGET_EVERY_S = 600.0
FORGET_ROWS = 1_000
"""Rows per transaction."""

STOP_WAIT_S = 5.0

HEADERS = {"Content-Type": "application/json", "User-Agent": "matting-webhooks/1", "Accept": "*/*"}


class WebhookDeliverer(PeriodicTask):
    """Starts due deliveries in each round; the end of a delivery wakes it for the next."""

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__("deliver")
        self._database = database
        self._settings = settings
        limits = WebLimits.of(settings)
        self._web = Web(replace(limits, timeout_s=settings.webhook_timeout_s))
        self._leadership = Leadership(database, LEASE_NAME, lease_s=LEADER_LEASE_S)
        self._changed = threading.Condition()
        self._busy: dict[uuid.UUID, uuid.UUID] = {}
        """Webhooks with a delivery in progress, and their keys."""
        self._after: uuid.UUID | None = None
        """The last webhook that had its turn; None: the next round begins with the first one."""
        self._forget_at = 0.0

    def stop(self) -> None:
        """Start nothing new, wait briefly for deliveries in progress, and let another process take
        over. Unfinished deliveries are sent again.
        """
        super().stop()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, timeout=STOP_WAIT_S)
        self._leadership.release()
        self._web.close()

    def round(self) -> float:
        """Start what is due, and sometimes delete old deliveries."""
        self.send_due()
        self._forget()
        return LOOK_EVERY_S

    def send_due(self) -> int:
        """Start due deliveries while there is capacity, page by page until each webhook had its
        turn; returns how many. Raises MattingError.
        """
        begun = 0
        for _page in range(PAGES_PER_ROUND):
            with self._changed:
                busy = dict(self._busy)
            if len(busy) >= AT_ONCE or not self._leadership.held():
                break
            with self._database.transaction() as session:
                claimed = job_store.claim_deliveries(
                    session,
                    after=self._after,
                    busy=list(busy),
                    taken=Counter(busy.values()),
                    of_key=AT_ONCE_OF_KEY,
                    limit=AT_ONCE - len(busy),
                    lease_s=self._settings.webhook_timeout_s + LEASE_SPARE_S,
                )
            self._after = claimed.last
            for attempt in claimed.attempts:
                self._begin(attempt)
            begun += len(claimed.attempts)
            for webhook_id in claimed.disabled:
                with self._database.transaction() as session:
                    job_store.give_up_deliveries(session, webhook_id)
            if claimed.last is None:
                break
        return begun

    def _begin(self, attempt: Attempt) -> None:
        with self._changed:
            self._busy[attempt.webhook_id] = attempt.api_key_id
        thread = threading.Thread(
            target=self._deliver, args=(attempt,), name="delivery", daemon=True
        )
        try:
            thread.start()
        except BaseException:  # no thread is left: the delivery is due again when its lease ends
            with self._changed:
                del self._busy[attempt.webhook_id]
            raise

    def _deliver(self, attempt: Attempt) -> None:
        try:
            result = self._attempt(attempt)
            unanswered = result.outcome is Outcome.FAILED and result.http_status is None
            if unanswered and self._stopping.is_set():
                return  # `stop` closes connections, which says nothing about the receiver
            with self._database.transaction() as session:
                job_store.record_attempt(session, attempt, result)
            WEBHOOKS.labels(result.outcome.value).inc()
            log.info(
                "webhook",
                delivery=str(attempt.delivery_id),
                webhook=str(attempt.webhook_id),
                kind=attempt.event.value,
                attempt=attempt.number,
                outcome=result.outcome.value,
                status=result.http_status,
            )
        except MattingError as error:  # not recorded: it is sent again when its claim expires
            log.warning("webhook-not-recorded", code=error.code, detail=error.detail)
        except Exception:  # not recorded either
            log.exception("webhook-crashed", delivery=str(attempt.delivery_id))
        finally:
            with self._changed:
                self._busy.pop(attempt.webhook_id, None)
                self._changed.notify_all()
            self.wake()

    def _attempt(self, attempt: Attempt) -> AttemptResult:
        """Send the delivery once."""
        started = time.monotonic()
        status, detail, quiet_s = None, "", 0.0
        try:
            posted = self._send(attempt)
        except ForbiddenUrlError as error:
            outcome, detail = Outcome.REFUSED, error.detail
        except UrlNotFetchedError as error:
            outcome, detail = Outcome.FAILED, error.detail
        except Exception:  # a bug: if not recorded, it would be repeated forever
            log.exception("webhook-not-sent", delivery=str(attempt.delivery_id))
            outcome, detail = Outcome.FAILED, "Something went wrong inside the service"
        else:
            status = posted.status
            outcome = _outcome_of(status)
            if status in BUSY:
                quiet_s = self._quiet_s(posted.retry_after)
        duration_ms = (time.monotonic() - started) * 1e3
        return AttemptResult(
            outcome=outcome,
            http_status=status,
            detail=detail,
            duration_ms=duration_ms,
            retry_s=self._wait_s(attempt.retry_step, quiet_s)
            if outcome is Outcome.FAILED
            else None,
            quiet_s=quiet_s,
        )

    def _send(self, attempt: Attempt) -> PostResponse:
        signed = signed_headers(
            str(attempt.delivery_id), int(time.time()), attempt.body, attempt.secrets
        )
        return self._web.post(attempt.url, attempt.body, HEADERS | signed)

    def _wait_s(self, retry_step: int, quiet_s: float) -> float | None:
        """The wait before the next attempt; None: there is none."""
        ladder = self._settings.webhook_retries_s
        if retry_step >= len(ladder):
            return None
        return max(quiet_s, ladder[retry_step] * random.uniform(1, 1 + JITTER))  # noqa: S311 - no secret

    def _quiet_s(self, retry_after: str) -> float:
        """The wait that the receiver asked for, at most the longest of the retry waits."""
        asked_s = retry_after_s(retry_after, datetime.now(UTC))
        return min(asked_s, max(self._settings.webhook_retries_s))

    def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_EVERY_S
        older_than_s = self._settings.webhook_log_days * 86_400
        forgotten = FORGET_ROWS
        while forgotten == FORGET_ROWS and self._leadership.held() and not self._stopping.is_set():
            with self._database.transaction() as session:
                forgotten = job_store.forget_deliveries(
                    session, older_than_s=older_than_s, limit=FORGET_ROWS
                )
        removed = 1
        while removed and self._leadership.held() and not self._stopping.is_set():
            with self._database.transaction() as session:
                removed = job_store.remove_deleted_webhooks(session)


def _outcome_of(status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome.DELIVERED
    return Outcome.GONE if status == 410 else Outcome.FAILED
