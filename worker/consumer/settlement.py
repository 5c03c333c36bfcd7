"""Ends an image's attempt: success, failure or another attempt, with metrics, trace and log."""

import random
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from shared import job_store
from shared.clips import ClipWork
from shared.database import Session, now
from shared.groups import GroupWork, Measured
from shared.job_store import Claim, Settlement, SettlementState
from shared.settings import Settings
from shared.telemetry import IMAGES, NEEDS_REVIEW, RETRIES, REUSED, STAGE_SECONDS, get_logger
from shared.tracing import trace_image
from worker.pipeline.work_items import Outcome

log = get_logger(__name__)


def settlement(session: Session, claim: Claim, outcome: Outcome, settings: Settings) -> Settlement:
    """The settlement of an image: its result, its error, or the time of the next attempt.

    A retryable error leads to another attempt while attempts are left.
    """
    error = outcome.error
    retry_at = None
    before = claim.work.measured if isinstance(claim.work, GroupWork) else None
    allowed = job_store.attempts_allowed(
        settings.max_attempts, claim.forwarded_to, passes=(before is not None) + _passes(claim)
    )
    if error is not None and error.retryable and claim.attempt < allowed:
        wait_s = backoff_s(claim.attempt, settings)
        retry_at = now(session) + timedelta(seconds=wait_s)
    has_result = not (
        error
        or outcome.forward_to
        or outcome.measured
        or outcome.clip
        or outcome.is_photo
        or outcome.is_matted
    )
    return Settlement(
        claim=claim,
        result_key=outcome.outputs[0].key if has_result else None,
        error_code=error.code if error else None,
        error_detail=error.message if error else None,
        retry_at=retry_at,
        forward_to=None if error else outcome.forward_to,
        measured=None if error else _measured(outcome),
        clip=outcome.clip,
        cut=outcome.cut,
        is_photo=outcome.is_photo,
        clip_result=None if error else outcome.clip_result,
        width=outcome.width or None,
        height=outcome.height or None,
        input_bytes=outcome.input_bytes or None,
        output_bytes=outcome.output_bytes or None,
        result_crc32=outcome.outputs[0].crc32 if outcome.outputs and not error else None,
        timings_ms=outcome.timings_ms if before is None else _sum(before, outcome),
        outputs=_kept(outcome, claim.options),
        review_reasons=() if error else [reason.value for reason in outcome.review],
        matte_model=None if error else outcome.model,
        fingerprint=None if error else outcome.fingerprint,
        reused=outcome.reused,
    )


def _passes(claim: Claim) -> int:
    """The claims of a clip that got on."""
    state = claim.work.state if isinstance(claim.work, ClipWork) else None
    return 0 if state is None else state.passes


def is_segment(claim: Claim) -> bool:
    """Whether it is a part of an image."""
    return isinstance(claim.work, ClipWork) and claim.work.segment is not None


def _measured(outcome: Outcome) -> Measured | None:
    """What the first pass found, with what else the second one must know of it."""
    if outcome.measured is None:
        return None
    return replace(
        outcome.measured,
        reasons=tuple(reason.value for reason in outcome.review),
        model=outcome.model,
        timings_ms={stage: round(ms, 3) for stage, ms in outcome.timings_ms.items()},
    )


def _sum(before: Measured, outcome: Outcome) -> dict[str, float]:
    """The times of both passes."""
    stages = dict.fromkeys([*before.timings_ms, *outcome.timings_ms])
    return {
        stage: before.timings_ms.get(stage, 0.0) + outcome.timings_ms.get(stage, 0.0)
        for stage in stages
    }


def _kept(outcome: Outcome, options: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The outputs to store, or None if `result_key` says everything."""
    if outcome.error or not outcome.outputs:
        return None
    main = outcome.outputs[0]
    is_clip = outcome.clip_result is not None  # its name has another ending than a photo's
    says_more = main.unmet or main.destination or options.get("name") or is_clip
    if len(outcome.outputs) == 1 and not says_more:
        return None
    return [asdict(one) for one in outcome.outputs]


def backoff_s(attempt: int, settings: Settings) -> float:
    """Seconds before the attempt after `attempt` (from 1): exponential backoff, with jitter between
    50 % and 100 %, so that images that failed together do not return all at once.
    """
    ceiling = min(settings.retry_max_s, settings.retry_base_s * 2 ** (attempt - 1))
    share: float = random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
    return float(ceiling * share)


def report_outcome(claim: Claim, outcome: Outcome, state: SettlementState) -> None:
    """Write the metrics, trace and log of a recorded outcome."""
    code = outcome.error.code if outcome.error else ""
    if not isinstance(claim.work, ClipWork):  # a stage of a clip takes as long as the clip has it
        for stage, spent_ms in outcome.timings_ms.items():
            STAGE_SECONDS.labels(stage).observe(spent_ms / 1e3)
    if state is SettlementState.RETRY:
        RETRIES.labels(code).inc()
    elif state is SettlementState.RECORDED and not is_segment(claim):
        IMAGES.labels("failed" if code else "succeeded", code).inc()
        REUSED.inc(outcome.reused)
        for reason in outcome.review:
            NEEDS_REVIEW.labels(reason.value).inc()
    trail = {
        "job": str(claim.job_id),
        "item": str(claim.item_id),
        "file": claim.name,
        "attempt": claim.attempt,
    }
    if outcome.stages:
        first_ns = min(stage.started_ns for stage in outcome.stages)
        trace_image(claim.job_id, first_ns, outcome.stages, {**trail, "code": code})
    if state is SettlementState.FORWARDED:
        log.info("image-forwarded", **trail, model=outcome.forward_to)
    if state is SettlementState.ADVANCED and outcome.clip is not None:
        log.info("clip-cut", **trail, segments=len(outcome.cut), frames=outcome.clip.frames)
    if state is SettlementState.WAITING:
        log.info("image-measured", **trail)
    if outcome.is_matted:
        log.info("segment-matted", **trail, state=state.value)
    elif not code and state is SettlementState.RECORDED:
        log.info(
            "image-done",
            **trail,
            keys=[output.key for output in outcome.outputs],
            reused=outcome.reused,
            timings_ms={stage: round(ms, 1) for stage, ms in outcome.timings_ms.items()},
        )
    if code or state is SettlementState.STALE:
        log.warning(
            "segment-failed" if is_segment(claim) else "image-failed",
            **trail,
            state=state.value,
            code=code,
            detail=outcome.error.detail if outcome.error else "",
        )
