"""All queries of shared.job_store with the arguments that the service uses, and how often it runs
them.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared import job_store
from shared.database import Session
from shared.groups import NEVER, Measured
from shared.job_store import AttemptResult, NewItem, NewVersion, Search, SeenObject, Settlement
from shared.jobs import ItemStatus, MadeBy, Reason, Verdict
from shared.messages import Message
from shared.models import (
    Delivery,
    IdempotencyKey,
    Item,
    ItemGroup,
    Job,
    Watch,
    WatchedObject,
    Webhook,
    new_id,
)
from shared.webhooks import DeliveryStatus, Outcome
from tests.scale.generate import HOT, Landmarks

BATCH, ROUND, REQUEST = "batch", "round", "request"

WRITES_MS = 200.0
"""Limit for a statement that writes a few hundred rows."""

PREFIX = "s3://matting/uploads/"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A function of the job store with realistic arguments."""

    name: str
    every: str
    """When it runs: per `batch` of a worker, `round` of a background thread, `request` to
    the API.
    """
    run: Callable[..., Any]
    limit_ms: float = 5.0
    """Limit for its slowest statement."""
    prepare: Callable[[Session, Landmarks], Any] | None = None
    """A query that runs before and is not measured. `run` gets its result as the third argument."""


def _ids(session: Session, job_id: uuid.UUID, status: ItemStatus, count: int) -> list[uuid.UUID]:
    statement = sa.select(Item.id).where(Item.job_id == job_id, Item.status == status)
    return list(session.scalars(statement.order_by(Item.position).limit(count)))


def _claims(session: Session, marks: Landmarks) -> list[job_store.Claim]:
    ids = _ids(session, marks.bulk, ItemStatus.QUEUED, 32)
    return job_store.claim_many(session, ids, job_ids=[marks.bulk], owner="w", lease_s=20).claims()


def _succeeded(session: Session, marks: Landmarks) -> Item:
    [item_id] = _ids(session, marks.plain, ItemStatus.SUCCEEDED, 1)
    return session.get_one(Item, item_id)


def _new_version() -> NewVersion:
    return NewVersion(job_id=new_id(), item_id=new_id(), made_by=MadeBy.NETWORK, options={})


def _settlements(session: Session, marks: Landmarks) -> list[Settlement]:
    claims = _claims(session, marks)
    return [Settlement(claim=one, result_key="k", fingerprint="0" * 64) for one in claims]


def _grouped(session: Session, marks: Landmarks) -> None:
    """Let a job's waiting photos be a group of which some are measured."""
    ids = _ids(session, marks.bulk, ItemStatus.QUEUED, 30)
    session.add(ItemGroup(job_id=marks.bulk, name="g", members=len(ids)))
    box = Measured(width=40, height=30, box=(0.2, 0.2, 0.8, 0.9)).to_json()
    for number, item_id in enumerate(ids):
        item = session.get_one(Item, item_id)
        item.group_name = "g"
        if number:
            item.measured, item.not_before = box, NEVER
    session.get_one(Job, marks.bulk).grouping_after = ""
    session.flush()


def _measured(session: Session, marks: Landmarks) -> list[Settlement]:
    _grouped(session, marks)
    box = Measured(width=40, height=30, box=(0.2, 0.2, 0.8, 0.9))
    return [Settlement(claim=one, measured=box) for one in _claims(session, marks)]


def _item(session: Session, marks: Landmarks) -> Item:
    return session.scalars(sa.select(Item).where(Item.job_id == marks.plain).limit(1)).one()


def _sources(session: Session, marks: Landmarks) -> list[str]:
    """Names of uploads; several jobs use some of them, and no job the others."""
    statement = sa.select(Item.source).where(Item.source.startswith(PREFIX))
    some = list(session.scalars(statement.limit(200)))
    return [*some, *(f"{PREFIX}0/unknown-{number}" for number in range(50))]


def _attempt(session: Session, marks: Landmarks) -> job_store.Attempt:
    delivery = session.scalars(
        sa.select(Delivery).where(
            Delivery.webhook_id == marks.webhook, Delivery.status == DeliveryStatus.PENDING
        ).limit(1)
    ).one()  # fmt: skip
    return job_store.Attempt(
        delivery_id=delivery.id,
        webhook_id=marks.webhook,
        api_key_id=marks.key,
        event=delivery.event,
        url="",
        body=b"",
        secrets=(),
        number=delivery.attempts,
        retry_step=0,
    )


def _delivery(session: Session, marks: Landmarks) -> Delivery:
    return session.scalars(
        sa.select(Delivery).where(Delivery.api_key_id == marks.key).limit(1)
    ).one()


def _fingerprints(session: Session, marks: Landmarks) -> list[tuple[uuid.UUID, str]]:
    """Fingerprints of a batch: one photo that was processed very often, some once, some never."""
    statement = sa.select(Item.fingerprint).where(
        Item.status == ItemStatus.SUCCEEDED, Item.fingerprint != HOT
    )
    once = list(session.scalars(statement.limit(15)))
    never = [f"{number:064x}" for number in range(16)]
    return [(marks.key, mark) for mark in [HOT, *once, *never] if mark]


def _new_items(count: int) -> list[NewItem]:
    return [NewItem(name=f"{n}.jpg", source=f"s3://photos/new/{n}.jpg") for n in range(count)]


def _new_job(session: Session, marks: Landmarks) -> Job:
    return job_store.create_job(
        session, api_key_id=marks.key, options={}, priority=5, labels={}, source={"kind": "keys"}
    )


def _published(session: Session, marks: Landmarks) -> list[Message]:
    return job_store.publishable(session, marks.bulk, ahead=1_000)


def _submission(session: Session, marks: Landmarks) -> IdempotencyKey:
    statement = sa.select(IdempotencyKey).where(IdempotencyKey.api_key_id == marks.key)
    return session.scalars(statement.limit(1)).one()


def _deliveries(session: Session, marks: Landmarks, **given: Any) -> object:
    values: dict[str, Any] = {"webhook_id": None, "job_id": None, "status": None, "before": None}
    return job_store.list_deliveries(session, api_key_id=marks.key, limit=51, **values | given)


def _items(session: Session, job_id: uuid.UUID, **given: Any) -> object:
    values: dict[str, Any] = {"status": None, "after": 0, "limit": 101}
    return job_store.list_items(session, job_id, **values | given)


def _delete_rows_of_plain(session: Session, marks: Landmarks) -> None:
    job_store.delete_job(session, marks.plain)
    job_store.remove_items(session, marks.plain, limit=1_000)


def _open_new_job(session: Session, marks: Landmarks) -> Job:
    job = _new_job(session, marks)
    job.expanded_at = None
    session.flush()
    return job


def _watch(session: Session, marks: Landmarks) -> Watch:
    """A watch that is due, and has seen a thousand objects."""
    key = session.get_one(Job, marks.plain).api_key_id
    values: dict[str, Any] = {"options": {}, "priority": 5, "labels": {}, "every_s": 60}
    values |= {"existing": True, "ascending": False, "limit": 1_000}
    watch = job_store.create_watch(session, api_key_id=key, prefix="s3://photos/", **values)
    seen = [{"watch_id": watch.id, "key": f"{n:05d}.jpg", "etag": "a"} for n in range(1_000)]
    session.execute(sa.insert(WatchedObject), seen)
    return watch


def _seen() -> list[SeenObject]:
    return [SeenObject(key=f"{n:05d}.jpg", etag="a", item=None) for n in range(1_000)]


QUERIES = [
    # For each batch of a worker.
    Query(
        name="must_run_alone",
        every=BATCH,
        prepare=lambda s, m: _ids(s, m.bulk, ItemStatus.QUEUED, 32),
        run=lambda s, m, ids: job_store.must_run_alone(s, ids),
    ),
    Query(
        name="claim_many",
        every=BATCH,
        prepare=lambda s, m: _ids(s, m.bulk, ItemStatus.QUEUED, 32),
        run=lambda s, m, ids: job_store.claim_many(s, ids, job_ids=[m.bulk], owner="w", lease_s=20),
    ),
    Query(
        name="find_earlier_results",
        every=BATCH,
        prepare=_fingerprints,
        run=lambda s, m, wanted: job_store.find_earlier_results(s, wanted),
    ),
    Query(
        name="finish_many",
        every=BATCH,
        prepare=_settlements,
        run=lambda s, m, settlements: job_store.finish_many(s, settlements),
    ),
    Query(
        name="finish_many of a group's last photo",
        every=BATCH,
        prepare=_measured,
        run=lambda s, m, settlements: job_store.finish_many(s, settlements),
    ),
    # For each round of a background thread.
    Query(
        name="grouping_jobs",
        every=ROUND,
        prepare=_grouped,
        run=lambda s, m, _: job_store.grouping_jobs(s, limit=100),
    ),
    Query(
        name="continue_grouping",
        every=ROUND,
        prepare=_grouped,
        run=lambda s, m, _: job_store.continue_grouping(s, m.bulk),
    ),
    Query(
        name="renew_leases",
        every=ROUND,
        prepare=lambda s, m: _ids(s, m.bulk, ItemStatus.RUNNING, 32),
        run=lambda s, m, ids: job_store.renew_leases(s, ids, owner="worker-1", lease_s=20),
    ),
    Query(name="beat", every=ROUND, run=lambda s, m: job_store.beat(s, "worker-1")),
    Query(
        name="acquire_leader_lease",
        every=ROUND,
        run=lambda s, m: job_store.acquire_leader_lease(s, "x", owner="o", lease_s=5),
    ),
    Query(
        name="due_watches",
        every=ROUND,
        prepare=_watch,
        run=lambda s, m, watch: job_store.due_watches(s, limit=50),
    ),
    Query(
        name="add_watched_page of 1,000 seen objects",
        every=ROUND,
        prepare=_watch,
        run=lambda s, m, watch: job_store.add_watched_page(
            s, watch, _seen(), last_key=None, is_last=True, max_objects=100_000
        ),
        limit_ms=WRITES_MS,
    ),
    Query(
        name="open_jobs",
        every=ROUND,
        run=lambda s, m: job_store.open_jobs(s),
    ),
    Query(
        name="jobs_to_publish of 100",
        every=ROUND,
        prepare=lambda s, m: {one.job_id: 256 for one in job_store.open_jobs(s)[-100:]},
        run=lambda s, m, ahead: job_store.jobs_to_publish(s, ahead),
    ),
    Query(
        name="publishable",
        every=ROUND,
        run=lambda s, m: job_store.publishable(s, m.bulk, ahead=1_000),
    ),
    Query(
        name="mark_published_many",
        every=ROUND,
        limit_ms=WRITES_MS,
        prepare=_published,
        run=lambda s, m, sent: job_store.mark_published_many(s, sent[:256]),
    ),
    Query(
        name="release_expired_leases",
        every=ROUND,
        run=lambda s, m: job_store.release_expired_leases(s, max_attempts=4),
    ),
    Query(
        name="unclaimed, the first 1,000",
        every=ROUND,
        limit_ms=WRITES_MS,
        run=lambda s, m: job_store.unclaimed(s, older_than_s=-DAY_S, limit=1_000),
    ),
    Query(
        name="unclaimed, the next 1,000",
        every=ROUND,
        limit_ms=WRITES_MS,
        prepare=lambda s, m: job_store.unclaimed(s, older_than_s=-DAY_S, limit=1_000)[-1:],
        run=lambda s, m, last: job_store.unclaimed(
            s, older_than_s=-DAY_S, limit=1_000, after=last[0] if last else None
        ),
    ),
    Query(
        name="forget_publications of 256",
        every=ROUND,
        limit_ms=WRITES_MS,
        prepare=lambda s, m: job_store.unclaimed(s, older_than_s=-DAY_S, limit=256),
        run=lambda s, m, sent: job_store.forget_publications(s, sent),
    ),
    Query(name="unexpanded_jobs", every=ROUND, run=lambda s, m: job_store.unexpanded_jobs(s)),
    Query(
        name="add_page of 1,000",
        every=ROUND,
        limit_ms=WRITES_MS,
        prepare=_open_new_job,
        run=lambda s, m, job: job_store.add_page(s, job.id, _new_items(1_000), cursor="x"),
    ),
    Query(
        name="claim_deliveries",
        every=ROUND,
        run=lambda s, m: job_store.claim_deliveries(
            s, after=None, busy=[], taken={}, of_key=4, limit=32, lease_s=25
        ),
    ),
    Query(
        name="record_attempt",
        every=ROUND,
        prepare=_attempt,
        run=lambda s, m, attempt: job_store.record_attempt(
            s, attempt, AttemptResult(outcome=Outcome.DELIVERED, duration_ms=1.0)
        ),
    ),
    Query(
        name="forget_deliveries",
        every=ROUND,
        run=lambda s, m: job_store.forget_deliveries(s, older_than_s=30 * DAY_S, limit=1_000),
    ),
    Query(
        name="forget_submissions",
        every=ROUND,
        run=lambda s, m: job_store.forget_submissions(s, older_than_s=-DAY_S, limit=1_000),
    ),
    Query(
        name="expire_jobs",
        every=ROUND,
        run=lambda s, m: job_store.expire_jobs(s, older_than_s=30 * DAY_S, limit=20),
    ),
    Query(
        name="stop_versions",
        every=ROUND,
        run=lambda s, m: job_store.stop_versions(s, m.plain, limit=20),
    ),
    Query(name="deleted_jobs", every=ROUND, run=lambda s, m: job_store.deleted_jobs(s, limit=20)),
    Query(
        name="sources_of",
        every=ROUND,
        run=lambda s, m: job_store.sources_of(s, m.failed, after=0, limit=250),
    ),
    Query(
        name="sources_still_needed of 250",
        every=ROUND,
        prepare=_sources,
        run=lambda s, m, urls: job_store.sources_still_needed(s, urls, but_for=m.plain),
    ),
    Query(
        name="sources_named_by_jobs of 250",
        every=ROUND,
        prepare=_sources,
        run=lambda s, m, urls: job_store.sources_named_by_jobs(s, urls),
    ),
    *(
        Query(
            name=f"uploads_in_options of {table.__tablename__}",
            every=ROUND,
            run=lambda s, m, table=table: job_store.uploads_in_options(
                s, table, PREFIX, after=m.plain, limit=500
            ),
        )
        for table in (Job, Item)
    ),
    Query(
        name="changing_jobs", every=ROUND, run=lambda s, m: job_store.changing_jobs(s, limit=100)
    ),
    Query(
        name="remove_items of 1,000",
        every=ROUND,
        run=lambda s, m: job_store.remove_items(s, m.failed, limit=1_000),
    ),
    Query(
        name="remove_places of 1,000",
        every=ROUND,
        run=lambda s, m: job_store.remove_places(s, m.failed, limit=1_000),
    ),
    Query(
        name="remove_job",
        every=ROUND,
        prepare=_delete_rows_of_plain,
        run=lambda s, m, _: job_store.remove_job(s, m.plain),
    ),
    # For requests.
    Query(name="find_api_key", every=REQUEST, run=lambda s, m: job_store.find_api_key(s, "mtk_x")),
    Query(name="images_left", every=REQUEST, run=lambda s, m: job_store.images_left(s, m.key)),
    Query(
        name="create_job, add_items of 100",
        every=REQUEST,
        run=lambda s, m: job_store.add_items(s, _new_job(s, m).id, _new_items(100)),
    ),
    Query(
        name="remember_submission",
        every=REQUEST,
        run=lambda s, m: job_store.remember_submission(
            s, m.plain, api_key_id=m.key, key="new", sha256="0"
        ),
    ),
    Query(
        name="find_submission",
        every=REQUEST,
        prepare=_submission,
        run=lambda s, m, one: job_store.find_submission(
            s, api_key_id=m.key, key=one.key, sha256=one.sha256
        ),
    ),
    Query(
        name="finish_expansion",
        every=REQUEST,
        prepare=_open_new_job,
        run=lambda s, m, job: job_store.finish_expansion(s, job.id),
    ),
    Query(
        name="get_job",
        every=REQUEST,
        run=lambda s, m: job_store.get_job(s, m.bulk, api_key_id=m.key),
    ),
    Query(
        name="list_jobs",
        every=REQUEST,
        run=lambda s, m: job_store.list_jobs(s, api_key_id=m.key, before=None, limit=51),
    ),
    Query(
        name="list_jobs, by metadata",
        every=REQUEST,
        run=lambda s, m: job_store.list_jobs(
            s,
            api_key_id=m.key,
            before=None,
            limit=51,
            metadata={"season": "spring", "shop": "north"},
        ),
    ),
    Query(
        name="list_jobs, a page further back",
        every=REQUEST,
        run=lambda s, m: job_store.list_jobs(s, api_key_id=m.key, before=m.failed, limit=51),
    ),
    Query(
        name="last_failures",
        every=REQUEST,
        run=lambda s, m: job_store.last_failures(s, limit=200),
    ),
    Query(name="recent_rate", every=REQUEST, run=lambda s, m: job_store.recent_rate(s)),
    Query(
        name="get_item",
        every=REQUEST,
        prepare=_item,
        run=lambda s, m, item: job_store.get_item(s, item.id, api_key_id=m.key),
    ),
    Query(name="list_items", every=REQUEST, run=lambda s, m: _items(s, m.bulk)),
    Query(
        name="list_items, far behind",
        every=REQUEST,
        run=lambda s, m: _items(s, m.bulk, after=15_000),
    ),
    Query(
        name="list_items, failed",
        every=REQUEST,
        run=lambda s, m: _items(s, m.bulk, status=ItemStatus.FAILED),
    ),
    Query(
        name="find_items",
        every=REQUEST,
        run=lambda s, m: job_store.find_items(s, "SKU-3", api_key_id=m.key, before=None, limit=51),
    ),
    Query(
        name="list_items, of one custom_id",
        every=REQUEST,
        run=lambda s, m: _items(s, m.bulk, custom_id="SKU-7"),
    ),
    *(
        Query(
            name=f"search_items, {name}",
            every=REQUEST,
            run=lambda s, m, search=search: job_store.search_items(
                s, m.bulk, search, after=0, limit=100
            ),
        )
        for name, search in (
            ("a name", Search(text="none-has-it")),
            ("a reason", Search(reason=Reason.SOFT)),
            ("unmet rules of flagged ones", Search(unmet_rules=True, review="flagged")),
        )
    ),
    *(
        Query(
            name=f"list_items, {which}",
            every=REQUEST,
            run=lambda s, m, which=which: _items(s, m.bulk, review=which),
        )
        for which in ("flagged", "pending", "accepted", "rejected")
    ),
    Query(
        name="record_verdict",
        every=REQUEST,
        prepare=_succeeded,
        run=lambda s, m, item: job_store.record_verdict(s, item, verdict=Verdict.ACCEPT, note=None),
    ),
    Query(
        name="begin_version",
        every=REQUEST,
        prepare=_succeeded,
        run=lambda s, m, item: job_store.begin_version(
            s, item.id, _new_version(), api_key_id=m.key, kept=5
        ),
    ),
    Query(
        name="redo_rejected",
        every=REQUEST,
        run=lambda s, m: job_store.redo_rejected(
            s, m.plain, lambda _item, _options: _new_version(), api_key_id=m.key, kept=5
        ),
        limit_ms=WRITES_MS,
    ),
    Query(
        name="list_versions",
        every=REQUEST,
        prepare=_succeeded,
        run=lambda s, m, item: job_store.list_versions(s, item),
    ),
    Query(
        name="ended_jobs_among",
        every=REQUEST,
        run=lambda s, m: job_store.ended_jobs_among(s, [m.bulk, m.failed, m.plain]),
    ),
    Query(name="pause_job", every=REQUEST, run=lambda s, m: job_store.pause_job(s, m.bulk)),
    Query(
        name="resume_job",
        every=REQUEST,
        limit_ms=WRITES_MS,
        prepare=lambda s, m: job_store.pause_job(s, m.bulk),
        run=lambda s, m, _: job_store.resume_job(s, m.bulk),
    ),
    Query(
        name="cancel_job of 400,000",
        every=REQUEST,
        limit_ms=WRITES_MS,
        run=lambda s, m: job_store.cancel_job(s, m.bulk),
    ),
    Query(
        name="count_retryable of 400,000",
        every=REQUEST,
        run=lambda s, m: job_store.count_retryable(s, m.failed),
    ),
    Query(
        name="retry_failed of 400,000",
        every=REQUEST,
        limit_ms=WRITES_MS,
        run=lambda s, m: job_store.retry_failed(s, m.failed),
    ),
    Query(
        name="delete_job of 400,000",
        every=REQUEST,
        run=lambda s, m: job_store.delete_job(s, m.bulk),
    ),
    Query(name="usage_of", every=REQUEST, run=lambda s, m: job_store.usage_of(s, [m.key])),
    Query(name="list_api_keys", every=REQUEST, run=lambda s, m: job_store.list_api_keys(s)),
    Query(name="backlog", every=REQUEST, run=lambda s, m: job_store.backlog(s)),
    Query(
        name="live_workers",
        every=REQUEST,
        run=lambda s, m: job_store.live_workers(s, stale_s=DAY_S),
    ),
    Query(
        name="list_webhooks",
        every=REQUEST,
        run=lambda s, m: job_store.list_webhooks(s, api_key_id=m.key),
    ),
    Query(
        name="get_delivery",
        every=REQUEST,
        prepare=_delivery,
        run=lambda s, m, one: job_store.get_delivery(s, one.id, api_key_id=m.key),
    ),
    Query(name="list_deliveries", every=REQUEST, run=lambda s, m: _deliveries(s, m)),
    Query(
        name="list_deliveries of a webhook",
        every=REQUEST,
        run=lambda s, m: _deliveries(s, m, webhook_id=m.webhook),
    ),
    Query(
        name="list_deliveries of a job",
        every=REQUEST,
        run=lambda s, m: _deliveries(s, m, job_id=m.plain),
    ),
    *(
        Query(
            name=f"list_deliveries, {status.value}",
            every=REQUEST,
            run=lambda s, m, status=status: _deliveries(s, m, status=status),
        )
        for status in DeliveryStatus
    ),
    Query(
        name="list_deliveries of a webhook, failed",
        every=REQUEST,
        run=lambda s, m: _deliveries(s, m, webhook_id=m.webhook, status=DeliveryStatus.FAILED),
    ),
    Query(
        name="announce_test",
        every=REQUEST,
        prepare=lambda s, m: s.get_one(Webhook, m.webhook),
        run=lambda s, m, webhook: job_store.announce_test(s, webhook),
    ),
]
