"""The client's types have exactly the fields that the service sends."""

from typing import Any

import pytest
from pydantic import BaseModel

from api.client import responses
from api.schemas import responses as schemas
from api.schemas import versions
from api.schemas import watches as watch_schemas
from api.schemas import webhooks as webhook_schemas


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        (responses.Job, schemas.JobOut),
        (responses.JobUrls, schemas.JobUrls),
        (responses.RetriedJob, schemas.RetriedJob),
        (responses.Counts, schemas.Counts),
        (responses.ReviewCounts, schemas.ReviewCounts),
        (responses.Item, schemas.ItemOut),
        (responses.Redo, schemas.RedoOut),
        (responses.Version, versions.VersionOut),
        (responses.StoredFile, schemas.OutputOut),
        (responses.Problem, schemas.ErrorWithRemedy),
        (responses.Watch, watch_schemas.WatchOut),
        (responses.WatchCounts, watch_schemas.WatchCounts),
        (responses.Webhook, webhook_schemas.WebhookOut),
        (responses.MadeWebhook, webhook_schemas.WebhookMade),
        (responses.Delivery, webhook_schemas.DeliveryOut),
        (responses.Attempt, webhook_schemas.AttemptOut),
    ],
)
def test_the_client_s_types_match_the_responses(typed: Any, sent: type[BaseModel]) -> None:
    fields = {**sent.model_fields, **sent.model_computed_fields}
    assert set(typed.__required_keys__) == set(fields)
