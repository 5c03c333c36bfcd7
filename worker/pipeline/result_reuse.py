"""Reuses the result of a photo that was processed before: it is copied in the storage.

A fingerprint covers the caller's key, the photo's bytes, the options and the model, so results of
another caller never match. Images with background pictures are always computed, because a picture
may change under the same name.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared import job_store
from shared.database import Database
from shared.earlier_result import EarlierResult
from shared.options import OF_JOB_ONLY, Options
from shared.storage import Storage

RESULT_VERSION = 8
"""Raise it when the same photo and options produce other pixels than before."""


class ResultReuse:
    """Earlier results in the database and the storage."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        model: str,
        second: Callable[[Options], str] = lambda _: "",
    ) -> None:
        """`model`: the fingerprint of the model. `second`: the fingerprint of the second model that
        photos with these options have; empty: they have none.
        """
        self._database = database
        self._storage = storage
        self._model = model
        self._second = second

    def fingerprint(self, tenant: str, data: bytes, options: Options) -> str | None:
        """SHA-256 of everything that determines the result."""
        if any(options.background_images()):
            return None
        # Neither a preset's name nor a file's name changes a pixel.
        unseen: dict[str, Any] = {
            "preset": True,
            "name": True,
            **dict.fromkeys(OF_JOB_ONLY, True),
            "extra_outputs": {"__all__": {"name"}},
        }
        asked = json.dumps(options.model_dump(mode="json", exclude=unseen), sort_keys=True)
        models = f"{self._model} {self._second(options)}"
        digest = hashlib.sha256(f"{RESULT_VERSION}\n{tenant}\n{models}\n{asked}\n".encode())
        digest.update(data)
        return digest.hexdigest()

    def find_many(
        self, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], EarlierResult]:
        """The newest result for each tenant and fingerprint."""
        if not wanted:
            return {}
        places = {(uuid.UUID(tenant), mark): (tenant, mark) for tenant, mark in wanted}
        with self._database.transaction() as session:
            found = job_store.find_earlier_results(session, list(places))
        return {places[place]: result for place, result in found.items()}

    def copy(self, source_key: str, key: str) -> None:
        """Copy an object within the service's bucket, inside the storage."""
        self._storage.copy(source_key, key)
