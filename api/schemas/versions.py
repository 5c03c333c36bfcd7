"""The body of the response that lists the versions of a result."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from api.schemas.responses import ErrorWithRemedy
from shared.job_store import Version
from shared.jobs import ItemStatus, MadeBy
from shared.models import Item
from shared.options import Options


class VersionOut(BaseModel):
    """One version of an item's result."""

    number: int = Field(description="From 1, the first result.")
    shown: bool = Field(description="Whether it is what the item shows.")
    made_by: MadeBy
    model: str | None = Field(
        description="The model that made the matte, which may be the second one; null: a person "
        "did, or it is not known."
    )
    api_key: str | None = Field(description="Name of the API key that asked for it.")
    status: ItemStatus
    error: ErrorWithRemedy | None
    options: Options
    needs_review: bool
    output_bytes: int | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, version: Version, item: Item) -> "VersionOut":
        """Make it from database rows."""
        result = version.result
        return cls._of(
            result,
            version.job.options,
            number=version.number,
            shown=version.number == item.version,
            made_by=version.made_by,
            api_key=version.api_key,
        )

    @classmethod
    def only(cls, item: Item, options: dict[str, Any]) -> "list[VersionOut]":
        """The first result of an item that has no other; none while it has no result."""
        if item.status is not ItemStatus.SUCCEEDED:
            return []
        used = item.options or options
        return [cls._of(item, used, number=1, shown=True, made_by=MadeBy.NETWORK, api_key=None)]

    @classmethod
    def _of(cls, result: Item, options: dict[str, Any], **values: Any) -> "VersionOut":
        return cls(
            model=result.matte_model,
            status=result.status,
            error=ErrorWithRemedy(code=result.error_code, detail=result.error_detail or "")
            if result.error_code
            else None,
            options=Options.model_validate(options),
            needs_review=result.needs_review,
            output_bytes=result.output_bytes,
            created_at=result.created_at,
            finished_at=result.finished_at,
            **values,
        )


class VersionList(BaseModel):
    """The versions of an item's result, oldest first."""

    versions: list[VersionOut]
