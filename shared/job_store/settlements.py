"""Outcomes of claimed items: each is recorded once, with the counters of its job."""

import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from shared.clips import ClipSegment, ClipState, ClipWork
from shared.errors import ImageTimeoutError, PoisonousImageError
from shared.groups import NEVER, GroupWork, Measured, TurntableWork
from shared.job_store.conditions import is_postgresql
from shared.job_store.groups import advance, has_open_photos, lock_waiting
from shared.job_store.job_numbers import write_numbers
from shared.job_store.leases import Claim
from shared.job_store.locks import lock_jobs_at, note_settled_jobs
from shared.job_store.outcome_rows import OutcomeRow, Outcomes
from shared.job_store.result_places import take_places_of_photo
from shared.job_store.segments import (
    give_up_segments,
    note_segments,
    spread,
)
from shared.job_store.usage import UsageAmount
from shared.jobs import (
    ENDED,
    SETTLED,
    STAGES,
    ItemKind,
    ItemStatus,
)
from shared.models import Job

GUILTY = frozenset({PoisonousImageError.code, ImageTimeoutError.code})
"""Errors that make all images of the job suspects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The outcome of a claimed item."""

    claim: Claim
    result_key: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    retry_at: datetime | None = None
    """Set for a retryable error: the item is queued until then."""
    forward_to: str | None = None
    """The second model: the item is queued for a worker that serves it."""
    measured: Measured | None = None
    """What the first pass found: the item waits for the other photos of its group."""
    clip: ClipState | None = None
    """How far the clip has come; with an error, what it found missing."""
    cut: Sequence[ClipSegment] = ()
    """The segments of a clip: it waits until their mattes are stored."""
    is_photo: bool = False
    """What is called like a clip is a photo: it is queued as one."""
    clip_result: Mapping[str, Any] | None = None
    """What is known of a clip that is done (worker.video.completing.ClipResult)."""
    width: int | None = None
    height: int | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    result_crc32: int | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    outputs: list[dict[str, Any]] | None = None
    review_reasons: Sequence[str] = ()
    matte_model: str | None = None
    fingerprint: str | None = None
    reused: bool = False


class SettlementState(StrEnum):
    """What happened to a settlement."""

    RECORDED = "recorded"
    RETRY = "retry"
    """The item waits for its next attempt."""
    FORWARDED = "forwarded"
    """The item waits for a worker that serves its second model."""
    WAITING = "waiting"
    """The item waits for the photos of its group."""
    ADVANCED = "advanced"
    """The clip waits for its segments, or is queued as the photo that it is."""
    CANCELLED = "cancelled"
    """It would wait for that worker, its group or its segments, but its job was cancelled."""
    STALE = "stale"
    """The lease had expired and another worker has the item: nothing was changed."""


WAITING_STATES = frozenset(
    {
        SettlementState.RETRY,
        SettlementState.FORWARDED,
        SettlementState.WAITING,
        SettlementState.ADVANCED,
    }
)
"""The states in which an item is queued again."""


def finish_many(session: Session, settlements: Sequence[Settlement]) -> list[SettlementState]:
    """Record a batch and update the counters of its jobs; one state per settlement, in the same
    order.

    A settlement is recorded only if its claim is the latest one of a running item, and once if it
    is there twice.
    """
    began = time.perf_counter()
    claims = [settlement.claim for settlement in settlements]
    first: dict[tuple[uuid.UUID, str, int], int] = {}
    for number, claim in enumerate(claims):
        first.setdefault(_fence(claim), number)
    candidates = [settlements[number] for number in first.values()]
    # As if no job had ended: what does not need the jobs is done before others have to wait.
    becomes = [_state(one, waits=one.measured is not None, ended=False) for one in candidates]
    outcomes = Outcomes(map(_row, candidates, becomes), postgres=is_postgresql(session))
    origins = {claim.of_job_id for claim in claims if claim.of_job_id is not None}
    ids = {claim.job_id for claim in claims} | origins
    jobs, moment = lock_jobs_at(session, ids)
    of_groups = _groups_of(claims)
    lock_waiting(session, of_groups, [claim.item_id for claim in claims])
    reopened = {
        claim.item_id
        for claim in claims
        if isinstance(claim.work, TurntableWork)
        and claim.group_name is not None
        and has_open_photos(session, claim.job_id, claim.group_name)
    }
    ended = {job.id for job in jobs.values() if job.status in ENDED}
    for place, one in enumerate(candidates):
        is_ended, is_reopened = one.claim.job_id in ended, one.claim.item_id in reopened
        if is_ended or is_reopened:
            waits = is_reopened or one.measured is not None
            becomes[place] = _state(one, waits=waits, ended=is_ended)
            outcomes.replace(place, _row(one, becomes[place]))
    states = [SettlementState.STALE] * len(settlements)
    becoming: defaultdict[uuid.UUID, list[tuple[Settlement, ItemStatus]]] = defaultdict(list)
    recorded: defaultdict[uuid.UUID, list[Settlement]] = defaultdict(list)
    written = sorted(outcomes.write(session, moment))
    for place in written:
        settlement, state = candidates[place], becomes[place]
        job_id = settlement.claim.job_id
        states[first[_fence(settlement.claim)]] = state
        if state is SettlementState.RECORDED:
            recorded[job_id].append(settlement)
        becoming[job_id].append((settlement, outcomes[place].values["status"]))
    for job_id, settled in becoming.items():
        _count(jobs[job_id], settled)
    _go_on_with_clips(session, jobs, settlements, states)
    for job_id, names in of_groups.items():
        if job_id in jobs:
            advance(session, jobs[job_id], names)
    record_ms = (time.perf_counter() - began) * 1e3
    for job_id, mine in becoming.items():
        jobs[job_id].record_ms += record_ms * len(mine) / len(written)
        jobs[job_id].progressed_at = max(moment, jobs[job_id].progressed_at or moment)
    note_settled_jobs(session, jobs.values())
    write_numbers(session, _used(recorded, jobs), moment)
    return states


def _fence(claim: Claim) -> tuple[uuid.UUID, str, int]:
    return claim.item_id, claim.owner, claim.attempt


def _go_on_with_clips(
    session: Session,
    jobs: Mapping[uuid.UUID, Job],
    settlements: Sequence[Settlement],
    states: Sequence[SettlementState],
) -> None:
    """Let workers take the segments of clips that were cut, count the segments that are done, and
    give up those of clips that are joined. What is called like a clip and is a photo takes other
    places in a destination.
    """
    done: list[tuple[uuid.UUID, Settlement]] = []
    for settlement, state in zip(settlements, states, strict=True):
        claim = settlement.claim
        if state is SettlementState.ADVANCED and settlement.cut and settlement.clip is not None:
            origin = jobs[claim.job_id]
            spread(session, origin, claim.item_id, settlement.clip, settlement.cut)
        elif state is SettlementState.ADVANCED and settlement.is_photo:
            take_places_of_photo(session, jobs[claim.job_id], claim.item_id)
        elif state is SettlementState.RECORDED and settlement.error_code is None:
            if isinstance(claim.work, ClipWork) and claim.work.segment is not None:
                done.append((claim.job_id, settlement))
                if claim.of_job_id is not None and claim.of_job_id in jobs:
                    jobs[claim.of_job_id].predict_ms += _device_ms(settlement)
            elif isinstance(claim.work, ClipWork) and claim.work.state is not None:
                give_up_segments(session, claim.job_id, claim.item_id)
    note_segments(session, jobs, done)


def _used(
    recorded: Mapping[uuid.UUID, Sequence[Settlement]], jobs: Mapping[uuid.UUID, Job]
) -> dict[uuid.UUID, UsageAmount]:
    """The usage of each key, from the images that succeeded. A mended matte and a turntable cost
    nothing. A segment of a clip costs the time of the device, also if its clip is cancelled.
    """
    used: defaultdict[uuid.UUID, UsageAmount] = defaultdict(UsageAmount)
    for job_id, mine in recorded.items():
        for settlement in mine:
            claim = settlement.claim
            free = claim.matte_key is not None or isinstance(claim.work, TurntableWork)
            if settlement.error_code is not None or free:
                continue
            total = used[jobs[job_id].api_key_id]
            total.device_ms += _device_ms(settlement)
            if isinstance(claim.work, ClipWork) and claim.work.segment is not None:
                continue
            total.images += 1
            total.pixels += (settlement.width or 0) * (settlement.height or 0)
            clip = settlement.clip_result or {}
            total.clip_seconds += clip.get("seconds", 0.0)
            total.megapixel_frames += clip.get("megapixel_frames", 0.0)
    return used


def _device_ms(settlement: Settlement) -> float:
    """The time of the device to book. The times of a clip hold those of its segments, which are
    booked already.
    """
    work = settlement.claim.work
    state = work.state if isinstance(work, ClipWork) else None
    booked = 0.0 if state is None else state.timings_ms.get("predict", 0.0)
    return max(0.0, settlement.timings_ms.get("predict", 0.0) - booked)


def _groups_of(claims: Iterable[Claim]) -> dict[uuid.UUID, set[str]]:
    """The groups of items, by job."""
    names: defaultdict[uuid.UUID, set[str]] = defaultdict(set)
    for claim in claims:
        if claim.group_name is not None:
            names[claim.job_id].add(claim.group_name)
    return dict(names)


def _state(settlement: Settlement, *, waits: bool, ended: bool) -> SettlementState:
    """What becomes of a settlement whose claim is the latest one. `waits`: for its group. `ended`:
    its job has ended.
    """
    if waits and settlement.error_code is None:
        return SettlementState.CANCELLED if ended else SettlementState.WAITING
    if settlement.clip is not None or settlement.is_photo:
        if ended:  # also with an error: what a join found missing may have gone with its job
            return SettlementState.CANCELLED
        if settlement.error_code is None:
            return SettlementState.ADVANCED
    if settlement.forward_to is not None:
        return SettlementState.CANCELLED if ended else SettlementState.FORWARDED
    retry = settlement.retry_at is not None and not ended
    return SettlementState.RETRY if retry else SettlementState.RECORDED


def _row(settlement: Settlement, state: SettlementState) -> OutcomeRow:
    """The new row of an item."""
    waits = state in WAITING_STATES
    not_before = settlement.retry_at if waits else None
    due_now = state is SettlementState.ADVANCED and not settlement.cut
    if state is SettlementState.WAITING or (state is SettlementState.ADVANCED and settlement.cut):
        not_before = NEVER
    return OutcomeRow(
        *_fence(settlement.claim),
        _values(settlement, state),
        ends=not waits,
        due_now=due_now,
        not_before=not_before,
    )


def _values(settlement: Settlement, state: SettlementState) -> dict[str, Any]:
    waits = state in WAITING_STATES
    measured = settlement.measured or _measured_before(settlement.claim)
    is_cancelled = state is SettlementState.CANCELLED
    if waits:
        status = ItemStatus.QUEUED
    elif is_cancelled:
        status = ItemStatus.CANCELLED
    elif settlement.error_code is not None:
        status = ItemStatus.FAILED
    else:
        status = ItemStatus.SUCCEEDED
    return {
        "status": status,
        "kind": ItemKind.PHOTO if settlement.is_photo else None,  # None: as it is
        "forwarded_to": settlement.forward_to or settlement.claim.forwarded_to,
        "measured": None if measured is None else measured.to_json(),
        "clip": _clip(settlement),
        "result_key": settlement.result_key,
        "error_code": None if is_cancelled else settlement.error_code,
        "error_detail": None if is_cancelled else settlement.error_detail,
        "width": settlement.width,
        "height": settlement.height,
        "input_bytes": settlement.input_bytes,
        "output_bytes": settlement.output_bytes,
        "result_crc32": settlement.result_crc32,
        "outputs": settlement.outputs,
        "needs_review": bool(settlement.review_reasons),
        "review_reasons": list(settlement.review_reasons) or None,
        "matte_model": settlement.matte_model,
        "fingerprint": settlement.fingerprint,
        "reused": settlement.reused,
        "timings_ms": {stage: round(ms, 3) for stage, ms in settlement.timings_ms.items()},
    }


def _clip(settlement: Settlement) -> dict[str, Any] | None:
    """What the row of a clip says; a try that failed changes nothing."""
    if settlement.clip_result is not None:
        return dict(settlement.clip_result)
    work = settlement.claim.work
    if isinstance(work, ClipWork) and work.segment is not None:
        return work.segment.to_json()
    state = settlement.clip or (work.state if isinstance(work, ClipWork) else None)
    return None if state is None else state.to_json()


def _measured_before(claim: Claim) -> Measured | None:
    return claim.work.measured if isinstance(claim.work, GroupWork) else None


def _count(job: Job, settled: Iterable[tuple[Settlement, ItemStatus]]) -> None:
    """Move images from `running` to their new status in the counters, and add their times."""
    sums: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for settlement, status in settled:
        sums["running"] -= 1
        sums[status.value] += 1
        if settlement.error_code in GUILTY:
            job.suspect = True
        if isinstance(settlement.claim.work, TurntableWork) and status in SETTLED:
            job.turntables_left = max(0, job.turntables_left - 1)
        if status is ItemStatus.SUCCEEDED:
            sums["needs_review"] += bool(settlement.review_reasons)
            sums["reused"] += settlement.reused
            sums["pixels"] += (settlement.width or 0) * (settlement.height or 0)
            sums["input_bytes"] += settlement.input_bytes or 0
            sums["output_bytes"] += settlement.output_bytes or 0
            times.update({**settlement.timings_ms, "predict": _device_ms(settlement)})
    for name, value in sums.items():
        if value:
            setattr(job, name, getattr(job, name) + value)
    for stage in STAGES:
        if stage in times:
            column = f"{stage}_ms"
            setattr(job, column, getattr(job, column) + times[stage])
