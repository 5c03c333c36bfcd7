"""One key sends small jobs without end while another key has a big one: both make progress, on a
real Redis.
"""

import uuid
from collections import Counter, deque

import pytest

from shared import job_store
from shared.database import Database
from shared.job_store import Claim, Settlement
from shared.queue import QUEUE, Celery, parse_message
from shared.reconciler import Reconciler
from shared.settings import Settings
from tests.integration.stored_jobs import finish, new_job, new_key

BATCH = 8
IN_FLIGHT = 3
ROUNDS = 24


def work_off(database: Database, queue: Celery, settings: Settings) -> Counter[uuid.UUID]:
    """Count finished images per key. The worker takes messages in the order in which Redis delivers
    them.
    """
    flood, shop = new_key(database, "flood"), new_key(database, "shop")
    new_job(database, 500, shop)
    with database.transaction() as session:
        job_store.register_worker(session, "w1", {"takes": BATCH * IN_FLIGHT})
    reconciler = Reconciler(database, queue, settings)
    done: Counter[uuid.UUID] = Counter()
    batches: deque[list[Claim]] = deque()
    with queue.connection_for_read() as connection:
        inbox = queue.amqp.queues[QUEUE](connection)
        for _ in range(ROUNDS):
            for _ in range(2):  # twice as much as the worker does in a round
                new_job(database, 8, flood)
            reconciler.publish_open_jobs()
            while len(batches) < IN_FLIGHT:
                pairs: list[tuple[uuid.UUID, uuid.UUID]] = []
                while len(pairs) < BATCH and (message := inbox.get()):
                    message.ack()
                    pairs.append(parse_message(message.payload[1]))
                with database.transaction() as session:
                    batches.append(
                        job_store.claim_many(
                            session,
                            [item for item, _ in pairs],
                            job_ids={job for _, job in pairs},
                            owner="w1",
                            lease_s=60,
                        ).claims()
                    )
            oldest = batches.popleft()
            finish(database, [Settlement(claim=one, result_key="k") for one in oldest])
            done.update(one.api_key_id for one in oldest)
    return Counter({key: done[key] for key in (flood, shop)})


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_many_small_jobs_and_a_big_one_share_the_workers_by_key(
    database: Database, queue: Celery, settings: Settings
) -> None:
    flood, shop = work_off(database, queue, settings).values()
    assert flood >= BATCH * ROUNDS / 4
    assert shop >= BATCH * ROUNDS / 4
