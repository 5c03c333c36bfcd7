"""The client's types have the fields that the service sends, no more and no fewer."""

from typing import Any

import pytest
from pydantic import BaseModel

from api.client import answers
from api.schemas import responses as schemas
from api.schemas import webhooks as webhook_schemas


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        (answers.Job, schemas.JobOut),
        (answers.Counts, schemas.Counts),
        (answers.ReviewCounts, schemas.ReviewCounts),
        (answers.Item, schemas.ItemOut),
        (answers.StoredFile, schemas.OutputOut),
        (answers.Problem, schemas.ErrorOut),
        (answers.Webhook, webhook_schemas.WebhookOut),
        (answers.MadeWebhook, webhook_schemas.WebhookMade),
        (answers.Delivery, webhook_schemas.DeliveryOut),
        (answers.Attempt, webhook_schemas.AttemptOut),
    ],
)
def test_the_client_s_types_are_what_is_sent(typed: Any, sent: type[BaseModel]) -> None:
    assert set(typed.__required_keys__) == set(sent.model_fields)
