"""Webhooks with very many deliveries are switched off and deleted in pages. A stop of the process
counts against no delivery.
"""

import threading
import uuid

import pytest
import sqlalchemy as sa

from api.background.webhook_delivery import WebhookDeliverer
from shared import job_store
from shared.database import Database
from shared.job_store import webhooks as webhooks_module
from shared.models import Delivery, Webhook
from shared.settings import Settings
from shared.webhooks import DeliveryStatus, DisabledReason, Event, new_secret
from tests.integration.webhooks.receiver import HANG, Receiver
from tests.waiting import eventually

PAGE = 10
COUNT = 3 * PAGE + 3


@pytest.fixture
def backlog(database: Database, monkeypatch: pytest.MonkeyPatch) -> tuple[uuid.UUID, uuid.UUID]:
    """The ids of a key and of its webhook, which has waiting deliveries."""
    monkeypatch.setattr(webhooks_module, "PAGE_DELIVERIES", PAGE)
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "shop")
        webhook = job_store.create_webhook(
            session,
            api_key_id=key.id,
            url="https://shop.example/hook",
            events=[Event.JOB_FINISHED],
            progress_percent=None,
            secret=new_secret(),
        )
        for _ in range(COUNT):
            job_store.announce_test(session, webhook)
        return key.id, webhook.id


def _count(database: Database, webhook_id: uuid.UUID, status: DeliveryStatus) -> int:
    with database.transaction() as session:
        statement = sa.select(sa.func.count()).select_from(Delivery)
        found = statement.where(Delivery.webhook_id == webhook_id, Delivery.status == status)
        return session.scalar(found) or 0


def test_what_a_disabled_webhook_was_not_told_is_given_up_in_pages(
    database: Database, settings: Settings, backlog: tuple[uuid.UUID, uuid.UUID]
) -> None:
    key, webhook_id = backlog
    with database.transaction() as session:
        webhook = job_store.get_webhook(session, webhook_id, api_key_id=key)
        assert webhook is not None
        job_store.disable_webhook(session, webhook, DisabledReason.CALLER)
    assert _count(database, webhook_id, DeliveryStatus.FAILED) == PAGE, "no more in one transaction"
    deliverer = WebhookDeliverer(database, settings)
    for done in (2 * PAGE, 3 * PAGE, COUNT):
        assert deliverer.send_due() == 0
        assert _count(database, webhook_id, DeliveryStatus.FAILED) == done
    deliverer._leadership.release()
    deliverer._web.close()


def test_a_deleted_webhook_is_gone_at_once_and_its_deliveries_follow_in_pages(
    database: Database, backlog: tuple[uuid.UUID, uuid.UUID]
) -> None:
    key, webhook_id = backlog
    with database.transaction() as session:
        webhook = job_store.get_webhook(session, webhook_id, api_key_id=key)
        assert webhook is not None
        job_store.delete_webhook(session, webhook)
    assert _count(database, webhook_id, DeliveryStatus.PENDING) == COUNT - PAGE
    with database.transaction() as session:
        assert job_store.get_webhook(session, webhook_id, api_key_id=key) is None
        assert job_store.list_webhooks(session, api_key_id=key) == []
        left = session.scalars(sa.select(Delivery.id).where(Delivery.webhook_id == webhook_id))
        one = left.first()
        assert one is not None
        assert job_store.get_delivery(session, one, api_key_id=key) is None
        listed = job_store.list_deliveries(
            session,
            api_key_id=key,
            webhook_id=None,
            job_id=None,
            status=None,
            before=None,
            limit=50,
        )
        assert listed == []
        claimed = job_store.claim_deliveries(
            session, after=None, busy=[], taken={}, of_key=4, limit=32, lease_s=10
        )
        assert webhook_id not in [one.webhook_id for one in claimed.attempts]
    removed = 1
    while removed:
        with database.transaction() as session:
            removed = job_store.remove_deleted_webhooks(session)
            assert removed <= PAGE + 1
    with database.transaction() as session:
        assert session.get(Webhook, webhook_id) is None


def test_a_stop_in_the_middle_of_a_delivery_is_no_failure_of_the_receiver(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.background.webhook_delivery.STOP_WAIT_S", 0)
    receiver = Receiver()
    receiver.plans["/hook"] = [HANG]
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "shop")
        webhook = job_store.create_webhook(
            session,
            api_key_id=key.id,
            url=receiver.url("/hook"),
            events=[Event.JOB_FINISHED],
            progress_percent=None,
            secret=new_secret(),
        )
        delivery_id = job_store.announce_test(session, webhook).id
    patient = {"allow_private_addresses": True, "webhook_timeout_s": 60.0}
    deliverer = WebhookDeliverer(database, settings.model_copy(update=patient))
    deliverer.start()
    eventually(lambda: receiver.received["/hook"], "the request")
    deliverer.stop()
    receiver.released.set()
    eventually(lambda: not deliverer._busy, "the end of the attempt")
    receiver.shutdown()
    thread.join()
    receiver.server_close()
    with database.transaction() as session:
        delivery = session.get_one(Delivery, delivery_id)
        assert (delivery.status, delivery.retry_step, delivery.log) == ("pending", 0, [])
