"""The Python client: submit, wait, download. The command line stands on it.

with MattingClient("http://127.0.0.1:8000", key) as client:
    job = client.wait(client.submit_files(["a.jpg", "b.jpg"])["id"])
    client.download(job["id"], "out")

`AsyncMattingClient` has the same methods, to be awaited.
"""

from api.client.answers import Answer, Counts, Item, Job, NamedItem, StoredFile
from api.client.asynchronous import AsyncMattingClient
from api.client.calls import ApiError
from api.client.names import output_names, result_names
from api.client.sync import MattingClient
from api.client.uploading import Journal

__all__ = [
    "Answer",
    "ApiError",
    "AsyncMattingClient",
    "Counts",
    "Item",
    "Job",
    "Journal",
    "MattingClient",
    "NamedItem",
    "StoredFile",
    "output_names",
    "result_names",
]
