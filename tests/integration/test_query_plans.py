"""No query reads a growing table completely: plans on a generated PostgreSQL database and on
SQLite.

The planner has the generated database's statistics, so it would choose the same plans for more
rows. `make scale` shows plans and times with a million jobs and ten million images.
"""

from collections.abc import Iterator

import pytest

from shared import job_store
from shared.database import Database
from shared.job_store import Settlement
from shared.webhooks import Event, new_secret
from tests.conftest import new_database
from tests.integration.stored_jobs import claim, finish, new_job, new_key
from tests.scale.explain import explain
from tests.scale.generate import Landmarks, Size, generate
from tests.scale.queries import QUERIES, Query

SIZE = Size(jobs=10_000, items=100_000, open_jobs=100, bulk=4_000)

MOST_ROWS = 3_000
"""Rows that one statement may read: pages have a thousand, and changes read them twice."""

Generated = tuple[Database, Landmarks]


@pytest.fixture(scope="module")
def generated(postgresql_url: str) -> Iterator[Generated]:
    database = Database(new_database(postgresql_url), process="tests")
    database.migrate()
    yield database, generate(database, SIZE)
    database.close()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    """SQLite, whose plans depend only on the statement and the indexes."""
    folder = tmp_path_factory.mktemp("embedded")
    database = Database(f"sqlite:///{folder / 'matting.db'}", process="tests")
    database.migrate()
    yield database, _some_jobs(database)
    database.close()


def _some_jobs(database: Database) -> Landmarks:
    key = new_key(database)
    bulk, failed, plain = (new_job(database, 60, key) for _ in range(3))
    claims = claim(database, failed)
    finish(database, [Settlement(claim=one, error_code="not-an-image") for one in claims])
    claims = claim(database, plain)
    finish(database, [Settlement(claim=one, result_key="k", fingerprint="0") for one in claims])
    with database.transaction() as session:
        webhook = job_store.create_webhook(
            session, api_key_id=key, url="https://x.example/", events=[Event.JOB_FINISHED],
            secret=new_secret(), progress_percent=None,
        )  # fmt: skip
        job_store.announce_test(session, webhook)
        job_store.remember_submission(session, plain, api_key_id=key, key="a", sha256="0")
    return Landmarks(key=key, bulk=bulk, failed=failed, plain=plain, webhook=webhook.id)


NOT_ON_SQLITE = {"sources_still_needed of 250", "sources_named_by_jobs of 250", "recent_rate"}
"""Background work and a dry run. They read all jobs of an embedded database."""


@pytest.mark.parametrize(
    "query", [one for one in QUERIES if one.name not in NOT_ON_SQLITE], ids=lambda query: query.name
)
def test_no_query_reads_a_growing_table_completely_on_sqlite(
    embedded: Generated, query: Query
) -> None:
    database, landmarks = embedded
    for plan in explain(database, query, landmarks):
        assert not plan.scans, f"{plan.statement}\n{plan.steps}"


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_no_query_reads_a_growing_table_completely(generated: Generated, query: Query) -> None:
    database, landmarks = generated
    for plan in explain(database, query, landmarks):
        assert not plan.scans, f"{plan.statement}\n{plan.steps}"
        assert plan.rows <= MOST_ROWS, f"{plan.rows} rows: {plan.statement}\n{plan.steps}"


@pytest.fixture(scope="module")
def one_big_job(postgresql_url: str) -> Iterator[Generated]:
    """A service nearly all of whose images belong to two jobs."""
    database = Database(new_database(postgresql_url), process="tests")
    database.migrate()
    yield database, generate(database, Size(jobs=20, items=8_100, open_jobs=1, bulk=4_000))
    database.close()


OF_A_WHOLE_JOB = ("remove_items", "sources_of", "list_items", "resume_job")


@pytest.mark.parametrize(
    "query",
    [one for one in QUERIES if one.name.startswith(OF_A_WHOLE_JOB) or "400,000" in one.name],
    ids=lambda query: query.name,
)
def test_a_job_that_is_most_of_the_table_is_read_by_an_index(
    one_big_job: Generated, query: Query
) -> None:
    database, landmarks = one_big_job
    for plan in explain(database, query, landmarks):
        if plan.statement.startswith("SELECT"):  # of so few rows an update may read all
            assert "items" not in plan.scans, f"{plan.statement}\n{plan.steps}"
