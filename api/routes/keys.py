"""/v1/keys: lists, makes and revokes API keys; needs the scope admin."""

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.http.auth import DEFAULT_SCOPES, CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import ResourcesDep
from api.schemas.sources import STORABLE, Key
from shared import job_store
from shared.errors import ForbiddenSourceError, KeyNotFoundError, ScopeError
from shared.jobs import Scope
from shared.models import ApiKey
from shared.object_url import folder_limit

router = APIRouter(route_class=GuardedRoute, prefix="/v1/keys", tags=["system"])

MOST = 2**31 - 1
"""The largest number that the database stores here."""


class KeyRequest(BaseModel):
    """The key to make."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] = (
        Field(pattern=STORABLE, description="Its owner or purpose.", examples=["shop"])
    )
    scopes: list[Scope] = Field(
        list(DEFAULT_SCOPES),
        min_length=1,
        max_length=len(Scope),
        description="What it may do; `admin` includes the others.",
    )
    sources: list[Key] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="The only folders that it may name as sources. Null: all that the settings "
        "allow.",
        examples=[["s3://photos/shop/"]],
    )
    destinations: list[Key] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="The only folders that its jobs may write results to. Null: all that the "
        "settings allow, or none if `sources` is set.",
        examples=[["s3://shop/cut-outs/"]],
    )
    requests_per_min: int | None = Field(
        None, ge=1, le=MOST, description="Null: the service's own rate."
    )
    images_per_month: int | None = Field(None, ge=0, le=MOST, description="Null: no limit.")


class KeyOut(BaseModel):
    """An API key, without its secret, of which only a hash is stored."""

    id: uuid.UUID
    name: str
    hint: str = Field(description="The first characters of the key.")
    scopes: list[Scope]
    sources: list[str] | None = Field(description="Null: all that the settings allow.")
    destinations: list[str] | None = Field(
        description="Null: all that the settings allow, or none if `sources` is set."
    )
    requests_per_min: int | None = Field(description="Null: the service's own rate.")
    images_per_month: int | None = Field(description="Null: no limit.")
    created_at: datetime
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> "KeyOut":
        """Make it from a database row."""
        return cls(
            id=key.id,
            name=key.name,
            hint=key.hint,
            scopes=list(DEFAULT_SCOPES) if key.scopes is None else list(map(Scope, key.scopes)),
            sources=key.sources,
            destinations=key.destinations,
            requests_per_min=key.requests_per_min,
            images_per_month=key.images_per_month,
            created_at=key.created_at,
            revoked_at=key.revoked_at,
        )


class KeyMade(KeyOut):
    """A new key with its secret."""

    key: str = Field(description="Store it now: it is not shown again.", examples=["mtk_…"])


class KeyList(BaseModel):
    """All API keys, oldest first."""

    keys: list[KeyOut]


@router.get("", responses=responses(ScopeError))
def list_keys(resources: ResourcesDep, caller: CallerDep) -> KeyList:
    """All API keys, the revoked ones too."""
    caller.require(Scope.ADMIN)
    with resources.database.transaction() as session:
        return KeyList(keys=[KeyOut.of(key) for key in job_store.list_api_keys(session)])


@router.post("", status_code=201, responses=responses(ScopeError, ForbiddenSourceError))
def create_key(body: KeyRequest, resources: ResourcesDep, caller: CallerDep) -> KeyMade:
    """Make an API key. A key that is limited to folders or images makes none, because the new key
    would not have its limits.
    """
    caller.require(Scope.ADMIN)
    if (caller.sources, caller.destinations, caller.images_per_month) != (None, None, None):
        raise ScopeError(f"The API key {caller.name!r} is limited itself, so it can't make keys")
    with resources.database.transaction() as session:
        key, secret = job_store.create_api_key(
            session,
            body.name,
            scopes=list(dict.fromkeys(body.scopes)),
            sources=_folders(body.sources),
            destinations=_folders(body.destinations),
            requests_per_min=body.requests_per_min,
            images_per_month=body.images_per_month,
        )
        return KeyMade(**KeyOut.of(key).model_dump(), key=secret)


@router.post("/{key_id}/revoke", responses=responses(ScopeError, KeyNotFoundError))
def revoke_key(key_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> KeyOut:
    """Revoke an API key for ever, with the sessions that it opened. Its jobs are kept."""
    caller.require(Scope.ADMIN)
    with resources.database.transaction() as session:
        key = job_store.revoke_api_key(session, key_id)
        if key is None:
            raise KeyNotFoundError(f"There is no API key {key_id}")
    resources.known_keys.forget()
    return KeyOut.of(key)


def _folders(given: list[str] | None) -> list[str] | None:
    """Folders as the database stores them. Raises ForbiddenSourceError."""
    return None if given is None else [folder_limit(one) for one in given]
