"""Jobs are found by their metadata and images by the caller's own id, also those of before."""

import importlib
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.job_store import NewItem, Search, search
from shared.jobs import Reason
from shared.models import MAX_SEARCHED_CHARS, Item, JobLabel
from tests.integration.stored_jobs import new_key

VERSIONS = "shared.migrations.versions"


def new_job(database: Database, key: uuid.UUID, **labels: str) -> uuid.UUID:
    with database.transaction() as session:
        job = job_store.create_job(
            session, api_key_id=key, options={}, priority=5, labels=labels, source={}
        )
        items = [NewItem(name="a", source="s3://a/1", custom_id="SKU-1")]
        job_store.add_items(session, job.id, [*items, NewItem(name="b", source="s3://a/2")])
        return job.id


def found(database: Database, key: uuid.UUID, **labels: str) -> list[uuid.UUID]:
    with database.transaction() as session:
        jobs = job_store.list_jobs(session, api_key_id=key, before=None, limit=10, metadata=labels)
        return [job.id for job in jobs]


def owners(database: Database, key: uuid.UUID) -> list[uuid.UUID]:
    """The jobs of the images that the key finds by their id."""
    with database.transaction() as session:
        items = job_store.find_items(session, "SKU-1", api_key_id=key, before=None, limit=10)
        return [item.job_id for item, _options in items]


def test_only_a_keys_own_jobs_and_images_are_found_newest_first(database: Database) -> None:
    mine, other = new_key(database), new_key(database)
    spring = new_job(database, mine, season="spring", shop="north")
    both = new_job(database, mine, season="spring", shop="south")
    foreign = new_job(database, other, season="spring")
    assert found(database, mine, season="spring") == [both, spring]
    assert found(database, mine, season="spring", shop="north") == [spring]
    assert found(database, mine, season="Spring") == []
    assert found(database, other, season="spring") == [foreign]
    assert owners(database, mine) == [both, spring]
    assert owners(database, other) == [foreign]
    with database.transaction() as session:
        job_store.delete_job(session, both)
    assert found(database, mine, season="spring") == [spring]
    assert owners(database, mine) == [spring]


def test_images_are_found_by_a_part_of_their_name_however_far_behind_they_are(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "ROWS_AT_ONCE", 10)
    monkeypatch.setattr(search, "ROWS_OF_SEARCH", 30)
    key = new_key(database)
    with database.transaction() as session:
        job = job_store.create_job(
            session, api_key_id=key, options={}, priority=5, labels={}, source={}
        )
        rows = [NewItem(name=f"{n}.jpg", source=f"s3://a/{n}") for n in range(1, 96)]
        rows[3] = NewItem(name="SCHÄL_100%.jpg", source="s3://a/x")
        rows[79] = NewItem(name="z.jpg", source="s3://a/y", custom_id="Schälmesser")
        job_store.add_items(session, job.id, rows)
        marked = sa.update(Item).where(Item.job_id == job.id, Item.position.in_([7, 70]))
        session.execute(marked.values(needs_review=True, review_reasons=["cut", "soft"]))
        unmet = sa.update(Item).where(Item.job_id == job.id, Item.position == 70)
        outputs = [{"name": "a", "unmet": []}, {"name": "b", "unmet": ["The format is PNG"]}]
        session.execute(unmet.values(outputs=outputs))
        met = sa.update(Item).where(Item.job_id == job.id, Item.position == 7)
        session.execute(met.values(outputs=[{"name": "a", "unmet": []}]))

    def found(limit: int = 100, **wanted: Any) -> list[list[int]]:
        """The positions, page by page."""
        pages: list[list[int]] = []
        after: int | None = 0
        while after is not None:
            with database.transaction() as session:
                items, after = job_store.search_items(
                    session, job.id, Search(**wanted), after=after, limit=limit
                )
                pages.append([item.position for item in items])
        return pages

    assert found(text="schäl") == [[4], [], [80], []]
    assert found(text="0%") == [[4], [], [], []]
    assert found(text="_") == [[4], [], [], []], "no wildcard"
    assert found(text="8.JPG", limit=3) == [[8, 18, 28], [38, 48, 58], [68, 78, 88], []]
    assert found(reason=Reason.SOFT) == [[7], [], [70], []]
    assert found(reason=Reason.BLURRED) == [[], [], [], []]
    assert found(unmet_rules=True) == [[], [], [70], []]
    assert found(text="z", reason=Reason.SOFT) == [[], [], [], []]
    with database.transaction() as session:
        last = session.scalars(sa.select(Item.id).where(Item.name == "95.jpg")).one()
    assert found(text=str(last)) == [[], [], [], [95]]


def test_a_value_that_is_too_long_to_be_found_is_stored_all_the_same(database: Database) -> None:
    key = new_key(database)
    long = "x" * (MAX_SEARCHED_CHARS + 1)
    job = new_job(database, key, note=long)
    assert found(database, key, note=long) == []
    with database.transaction() as session:
        stored = job_store.get_job(session, job, api_key_id=key)
        assert stored is not None
        assert stored.labels == {"note": long}


def test_jobs_and_images_of_before_the_migrations_are_found_too(database: Database) -> None:
    key = new_key(database)
    job = new_job(database, key, season="spring", note="x" * (MAX_SEARCHED_CHARS + 1))
    with database.transaction() as session:
        session.execute(sa.delete(JobLabel))
        session.execute(sa.update(Item).values(api_key_id=None))
    assert found(database, key, season="spring") == owners(database, key) == []
    with database.engine.begin() as connection:
        for version in ("0011_job_labels", "0012_owners_of_custom_ids"):
            importlib.import_module(f"{VERSIONS}.{version}")._fill(connection)
    assert found(database, key, season="spring") == owners(database, key) == [job]
