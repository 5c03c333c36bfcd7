# ruff: noqa: E501 - SQL
"""Generates a PostgreSQL database with SQL: jobs, images, webhooks and deliveries.

It resembles a busy service after a year: most jobs ended long ago, some are open, one API key owns
two fifths of everything. It contains one example of everything that could make a query slow: a job
with very many waiting images, one with as many failed images, a photo that was processed very
often, a webhook with a long backlog, jobs and images whose options name uploads.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared.database import Database

KEYS = 50
HOT_EVERY = 500
"""One in this many succeeded images is the same photo with the same options."""
HOT = "f" * 64
PUBLISHED = 256
"""Images of each open job that have a message in the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many rows to generate."""

    jobs: int = 1_000_000
    items: int = 10_000_000
    open_jobs: int = 2_000
    """Accepted or running jobs. As many are paused, and as many are deleted but not yet removed."""

    bulk: int = 400_000
    """Images of each of the two big jobs."""

    @property
    def plain(self) -> int:
        """Images of every other job."""
        return (self.items - 2 * self.bulk) // self.jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Landmarks:
    """The rows that the queries are run for."""

    key: uuid.UUID
    """The key that owns two fifths of all jobs. It has a quota."""
    bulk: uuid.UUID
    """A running job; nearly all of its images wait."""
    failed: uuid.UUID
    """A finished job; all of its images failed after one attempt."""
    plain: uuid.UUID
    """One of the many jobs that succeeded."""
    webhook: uuid.UUID
    """The webhook with the longest backlog."""


def _id(ms: str, number: str) -> str:
    """SQL for a UUIDv7 from a time in ms and a unique number."""
    return (
        f"(lpad(to_hex(({ms})::bigint), 12, '0') || '7' || lpad(to_hex(({number})::bigint & 4095), 3, '0')"
        f" || '8' || lpad(to_hex(({number})::bigint), 15, '0'))::uuid"
    )


NOW_MS = "(extract(epoch FROM now()) * 1000)::bigint"
DAY_MS = 86_400_000

FAST_LOAD = (
    "SET synchronous_commit = off",
    "SET maintenance_work_mem = '512MB'",
    "SET work_mem = '256MB'",
    "SET session_replication_role = replica",  # the rows below satisfy the foreign keys
)


@contextmanager
def patient(database: Database) -> Iterator[sa.Connection]:
    """A connection without the service's time limits. Every statement is its own transaction."""
    engine = sa.create_engine(database.url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def generate(database: Database, size: Size) -> Landmarks:
    """Fill the migrated, empty tables and analyze them. The secondary indexes are built
    afterwards.
    """
    with patient(database) as connection:
        indexes = _drop_indexes(connection)
        for statement in (*FAST_LOAD, *_statements(size), *indexes, "VACUUM ANALYZE"):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    return landmarks(database, size)


def _drop_indexes(connection: sa.Connection) -> list[str]:
    """Drop all indexes that no constraint needs. Returns the statements that create them again."""
    rows = connection.exec_driver_sql(
        "SELECT indexname, indexdef FROM pg_indexes i WHERE schemaname = 'public' AND NOT EXISTS "
        "(SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname)"
    ).all()
    for row in rows:
        connection.exec_driver_sql(f'DROP INDEX "{row.indexname}"')
    return [row.indexdef for row in rows]


def _statements(size: Size) -> list[str]:
    n = size.jobs
    created = f"{NOW_MS} - {365 * DAY_MS}::bigint + (j * {365 * DAY_MS}::bigint / {n})"
    # The newest jobs are open, then come paused ones, then deleted ones.
    first_open, first_paused = n - size.open_jobs, n - 2 * size.open_jobs
    first_deleted = n - 3 * size.open_jobs
    status = (
        f"CASE WHEN j > {first_open} THEN (CASE WHEN j % 10 = 1 THEN 'accepted' ELSE 'running' END) "
        f"WHEN j > {first_paused} THEN 'paused' WHEN j % 30 = 0 AND j < {first_paused} THEN 'cancelled' ELSE 'finished' END"
    )
    going = f"j > {first_paused}"
    total = f"CASE j WHEN {n} THEN {size.bulk} WHEN {first_paused} THEN {size.bulk} ELSE {size.plain} END"
    bulk, failed = f"j = {n}", f"j = {first_paused}"
    key = f"CASE WHEN j % 5 < 2 OR {bulk} OR {failed} THEN 0 ELSE j % {KEYS} END"
    upload = "'s3://matting/uploads/' || k || '/'"
    stamp = "to_timestamp(ms / 1000.0)"
    return [
        f"""INSERT INTO api_keys (id, name, hint, sha256, created_at, images_per_month)
        SELECT {_id(NOW_MS, "k")}, 'key ' || k, 'mtk_' || k, md5('a' || k) || md5('b' || k), now(),
               CASE WHEN k % 2 = 0 THEN 100000000 END
        FROM generate_series(0, {KEYS - 1}) k""",
        f"""CREATE TEMP TABLE plan AS
        SELECT j, ms, {_id("ms", "j")} AS id, k, (SELECT a.id FROM api_keys a WHERE a.name = 'key ' || k)
               AS api_key_id, status, going, total, failed,
               CASE WHEN going THEN total - least(total / 2, 64) ELSE 0 END AS queued,
               CASE WHEN going AND status = 'running' THEN least(total / 4, 8) ELSE 0 END AS running
        FROM (SELECT j, {created} AS ms, {key} AS k, {status} AS status, {going} AS going,
                     {total} AS total, {failed} AS failed
              FROM generate_series(1, {n}) j) p""",
        f"""INSERT INTO jobs (id, api_key_id, status, priority, options, labels, source, expanded_at,
          failure_after, suspect, total, queued, running, succeeded, failed, cancelled, pixels,
          input_bytes, output_bytes, fetch_ms, decode_ms, predict_ms, finish_ms, encode_ms, store_ms,
          record_ms, created_at, started_at, progressed_at, finished_at, deleted_at)
        SELECT id, api_key_id, status, 5,
          jsonb_build_object('format', 'png', 'profile', 'fast', 'crop', false, 'background',
            CASE WHEN j % 100 = 0 THEN jsonb_build_object('image', {upload} || 'behind-' || j) END),
          '{{}}', CASE WHEN j % 10 = 0 THEN jsonb_build_object('kind', 'zip', 'object',
            {upload} || 'list-' || j)
            WHEN j % 20 = 5 THEN jsonb_build_object('kind', 'urls', 'count', total, 'has_urls', true) ELSE jsonb_build_object('kind', 'keys', 'count', total) END,
          CASE WHEN going AND j % 40 = 0 THEN NULL ELSE {stamp} END, 0, false, total, queued, running,
          CASE WHEN failed THEN 0 ELSE total - queued - running END,
          CASE WHEN failed THEN total ELSE 0 END, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {stamp}, {stamp},
          {stamp} + interval '1 minute', CASE WHEN NOT going THEN {stamp} + interval '1 minute' END,
          CASE WHEN j > {first_deleted} AND NOT going AND NOT failed THEN now() END
        FROM plan""",
        """INSERT INTO job_labels (api_key_id, name, value, job_id)
        SELECT api_key_id, name, value, id FROM plan,
          LATERAL (VALUES ('season', (ARRAY['spring', 'summer', 'autumn', 'winter'])[j % 4 + 1]),
                          ('shop', (ARRAY['north', 'south'])[j % 2 + 1])) label (name, value)""",
        f"""INSERT INTO items (id, job_id, position, name, source, custom_id, api_key_id, options, status, attempts, deaths,
          not_before, published_at, lease_owner, lease_expires_at, result_key, error_code, needs_review,
          verdict, fingerprint, reused, width, height, input_bytes, output_bytes, timings_ms, created_at,
          started_at, finished_at)
        SELECT {_id("ms + position / 100", "number")}, job_id, position, 'photos/' || number || '.jpg',
          CASE WHEN number % 3 = 0 THEN {upload} || md5((number % 1000000)::text)
            ELSE 's3://photos/' || k || '/' || number || '.jpg' END,
          CASE WHEN number % 3 = 0 THEN 'SKU-' || position END,
          CASE WHEN number % 3 = 0 THEN api_key_id END,
          CASE WHEN number % 1000 = 0 THEN jsonb_build_object('background', jsonb_build_object('image',
            {upload} || 'behind-one-' || number)) END,
          status, CASE WHEN status = 'queued' THEN 0 ELSE 1 END, 0, NULL,
          CASE WHEN status IN ('queued', 'running') AND position <= {PUBLISHED} + 64
            THEN now() - (ms % 1000) * interval '1 ms' END,
          CASE WHEN status = 'running' THEN 'worker-1' END,
          CASE WHEN status = 'running' THEN now() + interval '1 day' END,
          CASE WHEN status = 'succeeded' THEN 'jobs/' || job_id || '/results/' || position || '.png' END,
          CASE WHEN status = 'failed' THEN 'not-an-image' END, status = 'succeeded' AND number % 10 = 0,
          CASE WHEN status = 'succeeded' AND number % 40 = 0 THEN 'accept' END,
          CASE WHEN status = 'succeeded' THEN CASE WHEN number % {HOT_EVERY} = 0 THEN '{HOT}'
            ELSE md5(number::text) || md5((number + 1)::text) END END,
          false, 2000, 1500, 400000, 900000,
          CASE WHEN status = 'succeeded' THEN '{{"fetch": 21.3, "decode": 12.1, "predict": 61.5,
            "encode": 30.2, "store": 14.9}}'::jsonb END, {stamp}, {stamp},
          CASE WHEN status IN ('succeeded', 'failed') THEN {stamp} + interval '1 minute' END
        FROM (SELECT p.id AS job_id, p.api_key_id, p.k, p.ms, position, p.j * {size.plain}::bigint +
                     CASE WHEN position > {size.plain} THEN {n * size.plain}::bigint + position
                       + CASE WHEN p.failed THEN {size.bulk} ELSE 0 END ELSE position END AS number,
                     CASE WHEN p.failed THEN 'failed'
                       WHEN position <= p.total - p.queued - p.running THEN 'succeeded'
                       WHEN position <= p.total - p.queued THEN 'running' ELSE 'queued' END AS status
              FROM plan p, generate_series(1, p.total) position) i""",
        f"""INSERT INTO webhooks (id, api_key_id, job_id, url, events, secrets, created_at)
        SELECT {_id(NOW_MS, "k")}, id, NULL, 'https://shop.example/matting', '["job.finished"]', '[]', now()
        FROM (SELECT id, substr(name, 5)::int AS k FROM api_keys) a""",
        f"""INSERT INTO webhooks (id, api_key_id, job_id, url, events, secrets, created_at)
        SELECT {_id("ms", "j + 1000")}, api_key_id, id, 'https://shop.example/job', '["job.finished"]', '[]',
               {stamp} FROM plan WHERE j % 20 = 0""",
        *(
            f"""INSERT INTO webhook_deliveries (id, webhook_id, api_key_id, job_id, event, body, status,
              attempts, rung, log, next_attempt_at, created_at, settled_at)
            SELECT {_id("ms", "j")}, w.id, w.api_key_id, p.id, 'job.finished', '{{}}',
              CASE WHEN waits THEN 'pending' ELSE 'delivered' END, 1, 1, '[]',
              CASE WHEN waits THEN {stamp} END, {stamp}, CASE WHEN NOT waits THEN {stamp} END
            FROM (SELECT *, j > {first_deleted} - {n // 50} AS waits FROM plan) p
            JOIN webhooks w ON {join} WHERE NOT going"""
            for join in (
                "p.j % 20 = 0 AND w.job_id = p.id",
                "p.j % 20 > 0 AND w.job_id IS NULL AND w.api_key_id = p.api_key_id",
            )
        ),
        """INSERT INTO idempotency_keys (api_key_id, key, sha256, job_id, created_at)
        SELECT api_key_id, 'order-' || j, md5('x'), id, now() FROM plan WHERE j % 2 = 0""",
        """INSERT INTO usage (api_key_id, month, images, pixels, device_ms)
        SELECT id, to_char(now() - m * interval '1 month', 'YYYY-MM'), 100, 100, 100
        FROM api_keys, generate_series(0, 11) m""",
        """INSERT INTO workers (id, state, description, started_at, heartbeat_at)
        SELECT 'worker-' || w, 'warm', '{"takes": 24}', now(), now() FROM generate_series(1, 4) w""",
    ]


def is_generated(database: Database) -> bool:
    """Whether the tables hold rows already."""
    with database.engine.connect() as connection:
        return connection.exec_driver_sql("SELECT 1 FROM jobs LIMIT 1").scalar() is not None


def landmarks(database: Database, size: Size) -> Landmarks:
    """Find the landmarks of a generated database."""
    with database.engine.connect() as connection:
        jobs: dict[str, Any] = {
            name: connection.exec_driver_sql(
                f"SELECT id FROM jobs WHERE {condition} LIMIT 1"
            ).scalar()
            for name, condition in (
                ("bulk", f"total = {size.bulk} AND failed < total"),
                ("failed", f"total = {size.bulk} AND failed = total"),
                (
                    "plain",
                    f"status = 'finished' AND succeeded = {size.plain} AND deleted_at IS NULL",
                ),
            )
        }
        key = connection.exec_driver_sql("SELECT id FROM api_keys WHERE name = 'key 0'").one()
        webhook: Any = connection.exec_driver_sql(
            f"SELECT id FROM webhooks WHERE api_key_id = '{key.id}' AND job_id IS NULL"
        ).scalar()
    return Landmarks(key=key.id, webhook=webhook, **jobs)
