"""The Python client for the service: submit, wait, download. The command line uses it too.

with MattingClient("http://127.0.0.1:8000", key) as client:
    job = client.wait(client.submit_files(["a.jpg", "b.jpg"])["id"])
    client.download(job["id"], "out")

`AsyncMattingClient` has the same methods for asyncio.
"""

from api.client.async_client import AsyncMattingClient
from api.client.calls import ApiError, JobSettings, JobWebhook
from api.client.file_names import output_names, result_names
from api.client.responses import (
    Answer,
    Counts,
    Delivery,
    Item,
    Job,
    MadeWebhook,
    NamedItem,
    StoredFile,
    Version,
    Watch,
    Webhook,
)
from api.client.sync_client import MattingClient
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
    "Version",
    "Watch",
    "Webhook",
    "output_names",
    "result_names",
]
