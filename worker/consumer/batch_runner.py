"""A batch of messages, from claim to record: claim in the database, run, record, in that order.

A message is only a hint that an item may be due: what is done, cancelled or another's drops out at
the claim, so a message that comes twice does nothing.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from shared import job_store
from shared.database import Database, Session
from shared.errors import (
    DatabaseError,
    InvalidOptionsError,
    LeaseLostError,
    MattingError,
    StorageError,
)
from shared.job_store import Claim, SettlementState
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.queue import parse_message
from shared.settings import Settings
from shared.telemetry import BATCH_IMAGES, REDELIVERIES, get_logger
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.consumer.settlement import report_outcome, settlement
from worker.pipeline.model_router import ImagePipeline
from worker.pipeline.photo_sources import WEB
from worker.pipeline.work_items import Outcome, WorkItem, requested_outputs

log = get_logger(__name__)

T = TypeVar("T")

DATABASE_RETRY_LIMIT_S = 60
"""How long a finished batch waits for the database to come back before its work is given up (and
done again by whoever claims it next)."""


class BatchRunner:
    """Runs batches of messages. Thread-safe."""

    def __init__(
        self,
        database: Database,
        pipeline: ImagePipeline,
        settings: Settings,
        worker_id: str,
        storage_breaker: CircuitBreaker,
    ) -> None:
        self._database = database
        self._storage_breaker = storage_breaker
        self._pipeline = pipeline
        self._settings = settings
        self._worker_id = worker_id
        self._held: dict[uuid.UUID, Claim] = {}
        self._isolation_lock = SharedExclusiveLock()
        self._held_lock = threading.Lock()

    @property
    def held(self) -> list[uuid.UUID]:
        """The items in flight: the heartbeat renews their leases, and no others."""
        with self._held_lock:
            return list(self._held)

    def run_many(self, messages: Sequence[dict[str, Any]]) -> list[str | MattingError | None]:
        """Do what the messages name; a word or an error for each, in their order, or None for what
        is done, cancelled or another's: of that, this message has nothing to tell.

        Raises DatabaseError when the batch can't be claimed or recorded: nothing is lost then, the
        leases run out and the items are sent again.
        """
        self._storage_breaker.wait_until_closed()
        parsed = [_parse(message) for message in messages]
        ids = [one for one in parsed if not isinstance(one, MattingError)]
        with self._isolation_lock.shared():
            results = self._batch(ids)
        left = [one for one in ids if one[0] not in results]
        if left:
            results |= self._one_by_one(left)
        REDELIVERIES.inc(len(ids) - len(results))
        return [one if isinstance(one, MattingError) else results.get(one[0]) for one in parsed]

    def fail_in_flight(self, item_id: str, error: MattingError) -> None:
        """Fail an image that is still in flight, since this process is to end because of it: the
        others of its batch are done again, and it is not. Raises DatabaseError.
        """
        with self._held_lock:
            claim = self._held.get(uuid.UUID(item_id))
        if claim is not None:
            self._record([claim], [Outcome(item_id=item_id, error=error)])

    def _batch(
        self, ids: Sequence[tuple[uuid.UUID, uuid.UUID]], *, alone: bool = False
    ) -> dict[uuid.UUID, str | MattingError]:
        """Claim, run, record; by item, what became of those that were there to be done."""
        claims = self._with_database_retries(lambda session: self._claim(session, ids, alone=alone))
        if not claims:
            return {}
        # Not before the commit was heard of: if its answer is lost, the claim stands and nobody
        # knows of it. Its lease must run out then, and not be renewed for ever.
        with self._held_lock:
            self._held.update((claim.item_id, claim) for claim in claims)
        BATCH_IMAGES.observe(len(claims))
        try:
            outcomes = self._run(claims)
            if any(isinstance(one.error, StorageError) for one in outcomes):
                self._storage_breaker.trip()
            return self._record(claims, outcomes)
        finally:
            with self._held_lock:
                for claim in claims:
                    # One that stood still may have lost it, and claimed it once more meanwhile.
                    if self._held.get(claim.item_id) is claim:
                        del self._held[claim.item_id]

    def _one_by_one(
        self, ids: Sequence[tuple[uuid.UUID, uuid.UUID]]
    ) -> dict[uuid.UUID, str | MattingError]:
        """Run those that workers keep dying with, each with nothing else in flight."""
        must_run_alone = self._with_database_retries(
            lambda session: job_store.must_run_alone(session, [item_id for item_id, _ in ids])
        )
        results: dict[uuid.UUID, str | MattingError] = {}
        for pair in ids:
            if pair[0] in must_run_alone and pair[0] not in results:
                with self._isolation_lock.exclusive():
                    results |= self._batch([pair], alone=True)
        return results

    def _claim(
        self, session: Session, ids: Sequence[tuple[uuid.UUID, uuid.UUID]], *, alone: bool
    ) -> list[Claim]:
        return job_store.claim_many(
            session,
            [item_id for item_id, _ in ids],
            job_ids={job_id for _, job_id in ids},
            owner=self._worker_id,
            lease_s=self._settings.lease_s,
            alone=alone,
        )

    def _run(self, claims: list[Claim]) -> list[Outcome]:
        """One outcome a claim; options that no longer validate fail their item alone."""
        outcomes: dict[uuid.UUID, Outcome] = {}
        work: list[tuple[Claim, WorkItem]] = []
        for claim in claims:
            try:
                work.append((claim, self._work_item(claim)))
            except MattingError as error:
                outcomes[claim.item_id] = Outcome(item_id=str(claim.item_id), error=error)
        done = self._pipeline.run_many([item for _, item in work])
        outcomes.update(
            (claim.item_id, outcome) for (claim, _), outcome in zip(work, done, strict=True)
        )
        return [outcomes[claim.item_id] for claim in claims]

    def _work_item(self, claim: Claim) -> WorkItem:
        try:
            options = Options.model_validate(claim.options)
        except ValidationError as error:
            raise InvalidOptionsError(f"Options of another version: {error}") from error
        on_web = not claim.source.startswith("s3://")
        source = ObjectUrl(WEB, claim.source) if on_web else ObjectUrl.parse(claim.source, "")
        return WorkItem(
            item_id=str(claim.item_id),
            bucket=source.bucket,
            key=source.key,
            options=options,
            outputs=requested_outputs(
                options, options.output_keys(str(claim.job_id), str(claim.item_id))
            ),
            name=claim.name,
            suspect=claim.suspect,
            tenant=str(claim.api_key_id),
        )

    def _record(
        self, claims: list[Claim], outcomes: list[Outcome]
    ) -> dict[uuid.UUID, str | MattingError]:
        started = time.perf_counter()

        def record(session: Session) -> list[SettlementState]:
            settlements = [
                settlement(session, claim, outcome, self._settings)
                for claim, outcome in zip(claims, outcomes, strict=True)
            ]
            return job_store.finish_many(session, settlements)

        states = self._with_database_retries(record)
        record_s = (time.perf_counter() - started) / len(claims)
        results: dict[uuid.UUID, str | MattingError] = {}
        for claim, outcome, state in zip(claims, outcomes, states, strict=True):
            outcome.timings_ms["record"] = record_s * 1e3
            report_outcome(claim, outcome, state)
            if state is SettlementState.STALE:
                results[claim.item_id] = LeaseLostError()
            else:
                results[claim.item_id] = outcome.error or "succeeded"
        return results

    def _with_database_retries(self, work: Callable[[Session], T]) -> T:
        """One transaction, tried again while the database is away, for `DATABASE_RETRY_LIMIT_S`."""
        deadline = time.monotonic() + DATABASE_RETRY_LIMIT_S
        attempt = 0
        while True:
            try:
                with self._database.transaction() as session:
                    return work(session)
            except DatabaseError as error:
                attempt += 1
                wait_s = min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1)  # noqa: S311 - jitter
                if time.monotonic() + wait_s > deadline:
                    raise
                log.warning("database-away", attempt=attempt, detail=error.detail)
                time.sleep(wait_s)


def _parse(message: dict[str, Any]) -> tuple[uuid.UUID, uuid.UUID] | MattingError:
    try:
        return parse_message(message)
    except MattingError as error:
        log.warning("message-refused", code=error.code, fields=sorted(message))
        return error
