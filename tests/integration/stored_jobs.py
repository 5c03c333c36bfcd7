"""Creates, claims and finishes jobs in a database like the service and its workers."""

import uuid
from collections import Counter
from datetime import timedelta

import sqlalchemy as sa

from shared import job_store
from shared.database import Database, now
from shared.job_store import Claim, NewItem, Settlement, SettlementState
from shared.jobs import ItemStatus
from shared.models import ApiKey, Item, Job

LEASE_S = 20.0


def new_key(database: Database, name: str = "tests") -> uuid.UUID:
    with database.transaction() as session:
        return job_store.create_api_key(session, name)[0].id


def limit_images(database: Database, key: uuid.UUID, images: int | None) -> None:
    """Set the key's monthly quota."""
    with database.transaction() as session:
        session.get_one(ApiKey, key).images_per_month = images


def new_job(
    database: Database, count: int, api_key_id: uuid.UUID | None = None, *, expanded: bool = True
) -> uuid.UUID:
    with database.transaction() as session:
        owner = api_key_id or job_store.create_api_key(session, "tests")[0].id
        job = job_store.create_job(
            session, api_key_id=owner, options={}, priority=5, labels={}, source={"kind": "keys"}
        )
        job_store.add_items(session, job.id, photos(range(count)))
        if expanded:
            job_store.finish_expansion(session, job.id)
        return job.id


def photos(numbers: range) -> list[NewItem]:
    return [NewItem(name=f"{n}.jpg", source=f"s3://photos/{n}.jpg") for n in numbers]


def item_ids(database: Database, job_id: uuid.UUID) -> list[uuid.UUID]:
    with database.transaction() as session:
        statement = sa.select(Item.id).where(Item.job_id == job_id).order_by(Item.position)
        return list(session.scalars(statement))


def claim(
    database: Database, job_id: uuid.UUID, owner: str = "w1", *, alone: bool = False
) -> list[Claim]:
    ids = item_ids(database, job_id)
    with database.transaction() as session:
        return job_store.claim_many(
            session, ids, job_ids=[job_id], owner=owner, lease_s=LEASE_S, alone=alone
        ).claims()


def finish(database: Database, settlements: list[Settlement]) -> list[SettlementState]:
    with database.transaction() as session:
        return job_store.finish_many(session, settlements)


def expire_leases(database: Database) -> None:
    with database.transaction() as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(
            sa.update(Item).where(Item.status == ItemStatus.RUNNING).values(lease_expires_at=past)
        )


def read(database: Database, job_id: uuid.UUID) -> Job:
    with database.transaction() as session:
        return session.get_one(Job, job_id)


def assert_counters_match_rows(database: Database, job_id: uuid.UUID) -> None:
    job = read(database, job_id)
    with database.transaction() as session:
        rows = Counter(session.scalars(sa.select(Item.status).where(Item.job_id == job_id)))
    for status in ItemStatus:
        assert getattr(job, status.value) == rows[status], status
    assert job.total == sum(rows.values())
