"""The Python client: submit, wait, download. The command line stands on it.

with MattingClient("http://127.0.0.1:8000", key) as client:
    job = client.wait(client.submit_files(["a.jpg", "b.jpg"])["id"])
    client.download(job["id"], "out")

`AsyncMattingClient` has the same methods, to be awaited.
"""

from api.client.answers import (
    Answer,
    Counts,
    Delivery,
    Item,
    Job,
    MadeWebhook,
    NamedItem,
    StoredFile,
    Webhook,
)
from api.client.asynchronous import AsyncMattingClient
from api.client.calls import ApiError, JobSettings, JobWebhook
from api.client.names import output_names, result_names
from api.client.sync import MattingClient
from api.client.uploading import Journal

__all__ = [
    "Answer",
    "ApiError",
    "AsyncMattingClient",
    "Counts",
    "Delivery",
    "Item",
    "Job",
    "JobSettings",
    "JobWebhook",
    "Journal",
    "MadeWebhook",
    "MattingClient",
    "NamedItem",
    "StoredFile",
    "Webhook",
    "output_names",
    "result_names",
]
