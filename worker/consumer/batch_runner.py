"""Runs a batch of messages: claim the items in the database, process them, record the results.

A message only says that an item may be due. Items that are done, cancelled or claimed by another
worker are not claimed, so a duplicate message does nothing.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from pydantic import ValidationError

from shared import job_store
from shared.clips import ClipWork
from shared.database import Database, Session
from shared.destination import destinations
from shared.errors import (
    DatabaseError,
    InvalidOptionsError,
    LeaseLostError,
    MattingError,
    PredictionServerError,
    PredictorError,
    StorageError,
)
from shared.job_store import Claim, ClaimedRows, SettlementState
from shared.messages import is_of_clip
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.published_results import mark
from shared.queue import parse_message
from shared.settings import Settings
from shared.telemetry import BATCH_IMAGES, REDELIVERIES, get_logger
from worker.concurrency.fifo_lock import FifoLock
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.consumer.database_retries import with_database_retries
from worker.consumer.settlement import (
    report_outcome,
    settlement,
)
from worker.consumer.unrecorded import UnrecordedItems
from worker.pipeline.in_flight import WEB, as_matting_error
from worker.pipeline.model_router import ImagePipeline
from worker.pipeline.work_items import Outcome, WorkItem, requested_outputs

log = get_logger(__name__)

_Result: TypeAlias = str | MattingError
"""The result of one image: a word for its success, or its error."""


class BatchRunner:
    """Runs batches of messages. Thread-safe."""

    def __init__(
        self,
        database: Database,
        pipeline: ImagePipeline,
        settings: Settings,
        worker_id: str,
        storage_breaker: CircuitBreaker,
        device_breaker: CircuitBreaker | None = None,
        stopping: threading.Event | None = None,
        isolation: SharedExclusiveLock | None = None,
        clip_turn: FifoLock | None = None,
    ) -> None:
        """`device_breaker`: for the device, here or on a server; None: nobody checks it.
        `stopping`: set when the worker stops, then it takes no more segments of clips. `isolation`:
        what an image that must run alone holds; None: nobody else looks at it. `clip_turn`: what
        the thread that works on a clip holds.
        """
        self._database = database
        self._breakers: dict[type[MattingError], CircuitBreaker] = {StorageError: storage_breaker}
        if device_breaker is not None:
            self._breakers |= {
                PredictionServerError: device_breaker,
                PredictorError: device_breaker,
            }
        self._pipeline = pipeline
        self._settings = settings
        self._worker_id = worker_id
        self._held: dict[uuid.UUID, Claim] = {}
        self._unrecorded = UnrecordedItems(database, worker_id)
        self._isolation_lock = isolation or SharedExclusiveLock()
        self._stopping = stopping or threading.Event()
        self._clip_turn = clip_turn or FifoLock()
        self._held_lock = threading.Lock()

    @property
    def held(self) -> list[uuid.UUID]:
        """The ids of the items in flight; the heartbeat renews the leases of exactly these."""
        with self._held_lock:
            return list(self._held)

    def run_many(self, messages: Sequence[dict[str, Any]]) -> list[str | MattingError | None]:
        """Process the items of the messages. Returns a word or an error for each message, in their
        order, or None if the item was done, cancelled or another worker's.

        Raises DatabaseError if the batch cannot be claimed or recorded. Nothing is lost:
        `give_back` returns the items to the queue, or their leases expire.
        """
        return self._run_messages(messages, self._batch)

    def run_each(
        self,
        messages: Sequence[dict[str, Any]],
        tell: Callable[[int, str | MattingError | None], None],
        *,
        urgent: bool,
    ) -> None:
        """The same for photos that may arrive slowly. `tell` receives the index and result of each
        message as soon as its image has ended. `urgent`: run before all images of full batches.
        """
        parsed = [_parse(message) for message in messages]
        told: set[int] = set()

        def settled(results: Mapping[uuid.UUID, str | MattingError]) -> None:
            for place, one in enumerate(parsed):
                if not isinstance(one, MattingError) and one[0] in results and place not in told:
                    told.add(place)
                    tell(place, results[one[0]])

        def batch(ids: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> dict[uuid.UUID, _Result]:
            return self._batch(ids, settled=settled, urgent=urgent)

        parts = [place for place, one in enumerate(messages) if is_of_clip(one)]
        others = [place for place in range(len(messages)) if place not in parts]
        if others:
            results = self._run_messages([messages[place] for place in others], batch, slow=True)
            for place, result in zip(others, results, strict=True):
                if place not in told:
                    tell(place, result)
        for place in parts:
            tell(place, self._run_clip(messages[place]))

    def _run_clip(self, message: dict[str, Any]) -> _Result | None:
        """Do what is due of a clip. After a segment follow those of the same clip that nobody has
        claimed yet. Each is claimed only when its turn has come, so other workers take the rest.
        """
        with self._clip_turn:
            if self._stopping.is_set():  # it is still queued, and will be sent again
                return None
            [result] = self._run_messages([message], self._batch, slow=True)
        done = result
        try:
            while done is not None and (due := self._next_segment(message)) is not None:
                with self._clip_turn:  # another clip that waits comes first
                    if self._stopping.is_set():
                        break
                    [done] = self._run_messages([due], self._batch, slow=True)
        except DatabaseError as away:  # the message's own segment is recorded
            log.warning("segment-not-recorded", detail=away.detail)
        return result

    def _next_segment(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """The message of a segment that waits, of the same clip."""
        parsed = _parse(message)
        if isinstance(parsed, MattingError):
            return None
        item_id = with_database_retries(
            self._database, lambda session: job_store.waiting_segment(session, parsed[1])
        )
        return None if item_id is None else {**message, "item": str(item_id)}

    def _run_messages(
        self,
        messages: Sequence[dict[str, Any]],
        batch: Callable[[Sequence[tuple[uuid.UUID, uuid.UUID]]], dict[uuid.UUID, _Result]],
        *,
        slow: bool = False,
    ) -> list[str | MattingError | None]:
        if not all(breaker.wait_until_closed() for breaker in self._breakers.values()):
            return [None] * len(messages)  # they are still queued, and will be sent again
        parsed = [_parse(message) for message in messages]
        ids = [one for one in parsed if not isinstance(one, MattingError)]
        with self._isolation_lock.shared(slow=slow):
            results = batch(ids)
        left = [one for one in ids if one[0] not in results]
        if left:
            results |= self._one_by_one(left)
        REDELIVERIES.inc(len(ids) - len(results))
        return [one if isinstance(one, MattingError) else results.get(one[0]) for one in parsed]

    def fail_in_flight(self, item_id: str, error: MattingError) -> None:
        """Record an image in flight as failed, because this process must end because of it.
        Afterwards the process no longer holds it. Raises DatabaseError.
        """
        with self._held_lock:
            claim = self._held.get(uuid.UUID(item_id))
        if claim is not None:
            self._record([claim], [Outcome(item_id=item_id, error=error)])
            self._let_go([claim])

    def give_back_all(self) -> None:
        """Return everything in flight to the queue, because this process must end and no image is
        the reason. Raises DatabaseError.
        """
        with self._held_lock:
            left = [(claim.item_id, claim.job_id) for claim in self._held.values()]
            self._held.clear()
        # Not as confirmed: what another thread records at this moment keeps its deaths.
        self._unrecorded.add(left, confirmed=False)
        self._unrecorded.give_back(tuple)

    def give_back(self) -> None:
        """Return items to the queue that an outage of the database kept this worker from recording.
        Raises DatabaseError.
        """
        self._unrecorded.give_back(lambda: self.held)

    def _batch(
        self,
        ids: Sequence[tuple[uuid.UUID, uuid.UUID]],
        *,
        alone: bool = False,
        settled: Callable[[Mapping[uuid.UUID, _Result]], None] | None = None,
        urgent: bool = False,
    ) -> dict[uuid.UUID, _Result]:
        """Claim, process and record items; returns the results by item id, for claimed items only.
        `settled` receives each result as soon as it is recorded, so no image waits for another.
        """
        claims = with_database_retries(
            self._database,
            lambda session: self._claim(session, ids, alone=alone),
            lambda: self._unrecorded.add(ids, confirmed=False),
        ).claims()
        if not claims:
            return {}
        # Only after the commit has been confirmed: if the confirmation is lost, the claim stands
        # but is not known here. Its lease must not be renewed then: the item is given back.
        with self._held_lock:
            self._held.update((claim.item_id, claim) for claim in claims)
        BATCH_IMAGES.observe(len(claims))
        results: dict[uuid.UUID, _Result] = {}
        try:
            for mine, outcomes in self._run(claims, at_once=settled is None, urgent=urgent):
                for kind, breaker in self._breakers.items():
                    if any(isinstance(one.error, kind) for one in outcomes):
                        breaker.trip()
                mine, outcomes = self._without_interrupted(mine, outcomes)
                recorded = self._record_each(mine, outcomes) if mine else {}
                self._let_go(mine)
                results |= recorded
                if settled is not None:
                    settled(recorded)
        except DatabaseError:
            left = [one for one in claims if self._held.get(one.item_id) is one]
            self._unrecorded.add([(one.item_id, one.job_id) for one in left], confirmed=True)
            raise
        finally:
            self._let_go(claims)
        return results

    def _without_interrupted(
        self, claims: Sequence[Claim], outcomes: Sequence[Outcome]
    ) -> tuple[list[Claim], list[Outcome]]:
        """What is to be recorded; the rest goes back to the queue: the worker stops, or does not
        serve the model.
        """
        left = [claim for claim, one in zip(claims, outcomes, strict=True) if one.interrupted]
        for one in outcomes:
            if one.interrupted and one.error is not None:
                told = {"item": one.item_id, "code": one.error.code, "detail": one.error.detail}
                log.warning("image-not-for-this-worker", **told)
        if left:
            self._unrecorded.add([(one.item_id, one.job_id) for one in left], confirmed=True)
            self._let_go(left)
            self._unrecorded.give_back(lambda: self.held)
        return (
            [claim for claim in claims if claim not in left],
            [one for one in outcomes if not one.interrupted],
        )

    def _let_go(self, claims: Sequence[Claim]) -> None:
        with self._held_lock:
            for claim in claims:
                # After a long stop of this process the entry may be a newer claim of the same item.
                if self._held.get(claim.item_id) is claim:
                    del self._held[claim.item_id]

    def _one_by_one(self, ids: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> dict[uuid.UUID, _Result]:
        """Process items that keep killing workers one by one, with nothing else in flight."""
        must_run_alone = with_database_retries(
            self._database,
            lambda session: job_store.must_run_alone(session, [item_id for item_id, _ in ids]),
        )
        results: dict[uuid.UUID, _Result] = {}
        for pair in ids:
            if pair[0] in must_run_alone and pair[0] not in results:
                with self._isolation_lock.exclusive():
                    results |= self._batch([pair], alone=True)
        return results

    def _claim(
        self, session: Session, ids: Sequence[tuple[uuid.UUID, uuid.UUID]], *, alone: bool
    ) -> ClaimedRows:
        return job_store.claim_many(
            session,
            [item_id for item_id, _ in ids],
            job_ids={job_id for _, job_id in ids},
            owner=self._worker_id,
            lease_s=self._settings.lease_s,
            alone=alone,
        )

    def _run(
        self, claims: Sequence[Claim], *, at_once: bool, urgent: bool
    ) -> Iterator[tuple[list[Claim], list[Outcome]]]:
        """One outcome for each claim, all at once or as they arrive. Options that no longer
        validate fail their own item only.
        """
        by_item = {str(claim.item_id): claim for claim in claims}
        work: list[WorkItem] = []
        refused: list[Outcome] = []
        for claim in claims:
            try:
                work.append(self._work_item(claim))
            except MattingError as error:
                refused.append(Outcome(item_id=str(claim.item_id), error=error))
        if at_once:
            groups: Iterable[list[Outcome]] = [refused + self._run_together(work)]
        else:
            groups = chain([refused] if refused else [], self._run_as_they_come(work, urgent))
        for outcomes in groups:
            yield [by_item[outcome.item_id] for outcome in outcomes], outcomes

    def _run_together(self, work: Sequence[WorkItem]) -> list[Outcome]:
        """One outcome for each item. If the pipeline itself fails, each item runs alone, so that
        only the one fails that is the reason.
        """
        try:
            return self._pipeline.run_many(work)
        except DatabaseError:  # the images go back, uncounted
            raise
        except Exception as error:
            if len(work) == 1:
                item_id = work[0].item_id
                failure = as_matting_error(error, item_id, "batch")
                return [Outcome(item_id=item_id, error=failure)]
            log.warning("batch-failed", images=len(work), exc_info=error)
            return [outcome for item in work for outcome in self._run_together([item])]

    def _run_as_they_come(self, work: Sequence[WorkItem], urgent: bool) -> Iterator[list[Outcome]]:
        left = {item.item_id: item for item in work}
        try:
            for outcomes in self._pipeline.run_each(work, urgent=urgent):
                for outcome in outcomes:
                    del left[outcome.item_id]
                yield outcomes
        except DatabaseError:
            raise
        except Exception as error:
            log.warning("batch-failed", images=len(left), exc_info=error)
            for item in left.values():
                yield self._run_together([item])

    def _work_item(self, claim: Claim) -> WorkItem:
        try:
            options = Options.model_validate(claim.options)
        except ValidationError as error:
            raise InvalidOptionsError(f"Options of another version: {error}") from error
        on_web = not claim.source.startswith("s3://")
        source = ObjectUrl(WEB, claim.source) if on_web else ObjectUrl.parse(claim.source, "")
        is_clip = isinstance(claim.work, ClipWork)
        places: Sequence[ObjectUrl] = ()
        if claim.destination is not None:
            places = destinations(claim.destination, claim.photo, options, clip=is_clip)
        return WorkItem(
            item_id=str(claim.item_id),
            bucket=source.bucket,
            key=source.key,
            options=options,
            outputs=requested_outputs(
                options,
                options.output_keys(str(claim.job_id), str(claim.item_id), clip=is_clip),
                places,
            ),
            photo=claim.photo,
            writer=mark(claim.claimed_at, str(claim.item_id)),
            forwarded_to=claim.forwarded_to,
            handover_key=f"jobs/{claim.job_id}/handover/{claim.item_id}.png",
            group=claim.work,
            group_matte_key=f"jobs/{claim.job_id}/handover/{claim.item_id}-matte.png",
            suspect=claim.suspect,
            matte_key=claim.matte_key,
            tenant=str(claim.api_key_id),
        )

    def _record_each(
        self, claims: Sequence[Claim], outcomes: Sequence[Outcome]
    ) -> dict[uuid.UUID, _Result]:
        """Record outcomes. If a bug, or a row that no code can use, prevents that, each is recorded
        by itself, so that the others are not lost with it. The lease of one that can't be recorded
        expires, as if its worker had died. Raises DatabaseError.
        """
        try:
            return self._record(claims, outcomes)
        except DatabaseError:
            raise
        except Exception:
            log.exception("batch-not-recorded", images=len(claims))
        recorded: dict[uuid.UUID, _Result] = {}
        for claim, outcome in zip(claims, outcomes, strict=True):
            try:
                recorded |= self._record([claim], [outcome])
            except DatabaseError:
                raise
            except Exception:
                log.exception("image-not-recorded", item=str(claim.item_id))
                recorded[claim.item_id] = MattingError("The outcome can't be recorded")
        return recorded

    def _record(
        self, claims: Sequence[Claim], outcomes: Sequence[Outcome]
    ) -> dict[uuid.UUID, _Result]:
        started = time.perf_counter()

        def record(session: Session) -> list[SettlementState]:
            settlements = [
                settlement(session, claim, outcome, self._settings)
                for claim, outcome in zip(claims, outcomes, strict=True)
            ]
            return job_store.finish_many(session, settlements)

        states = with_database_retries(self._database, record)
        stale = {
            claim.item_id
            for claim, state in zip(claims, states, strict=True)
            if state is SettlementState.STALE
        }
        self._unrecorded.still_alive(stale)
        record_s = (time.perf_counter() - started) / len(claims)
        results: dict[uuid.UUID, _Result] = {}
        for claim, outcome, state in zip(claims, outcomes, states, strict=True):
            outcome.timings_ms["record"] = record_s * 1e3
            report_outcome(claim, outcome, state)
            if outcome.after_record is not None and state is SettlementState.RECORDED:
                outcome.after_record()
            if state is SettlementState.STALE:
                results[claim.item_id] = LeaseLostError()
            elif state in (
                SettlementState.FORWARDED,
                SettlementState.WAITING,
                SettlementState.ADVANCED,
                SettlementState.CANCELLED,
            ):
                results[claim.item_id] = state.value
            else:
                results[claim.item_id] = outcome.error or "succeeded"
        return results


def _parse(message: dict[str, Any]) -> tuple[uuid.UUID, uuid.UUID] | MattingError:
    try:
        return parse_message(message)
    except MattingError as error:
        log.warning("message-refused", code=error.code, fields=sorted(message))
        return error
