"""Who is calling: an API key from `Authorization: Bearer` or `X-Api-Key`."""

import uuid
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from api.parts import PartsDep
from shared import job_store
from shared.errors import UnauthorizedError

_bearer = HTTPBearer(auto_error=False, description="`Authorization: Bearer mtk_…`")
_header = APIKeyHeader(name="X-Api-Key", auto_error=False)


@dataclass(frozen=True)
class Caller:
    """A valid key; jobs belong to it."""

    api_key_id: uuid.UUID
    name: str


def identify(
    parts: PartsDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    header: Annotated[str | None, Depends(_header)],
) -> Caller:
    """The caller behind the request. Raises UnauthorizedError."""
    secret = bearer.credentials if bearer else header
    if not secret:
        raise UnauthorizedError
    with parts.database.transaction() as session:
        key = job_store.find_api_key(session, secret)
    if key is None:
        raise UnauthorizedError("The API key is unknown or revoked")
    return Caller(key.id, key.name)


CallerDep = Annotated[Caller, Depends(identify)]
