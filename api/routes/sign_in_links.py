"""/v1/sign-in-links: links that sign a browser in without showing it the key."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import ResourcesDep
from shared.errors import QueueError
from shared.sign_in_links import LIFETIME_S

router = APIRouter(route_class=GuardedRoute, prefix="/v1/sign-in-links", tags=["console"])


class SignInLink(BaseModel):
    """A link that works once."""

    path: str = Field(
        examples=["/console/sign-in#mtl_…"],
        description="Add it to the address of the service. The token stands behind `#`, so no "
        "server or proxy writes it into its log.",
    )
    expires_in_s: int


@router.post("", status_code=201, responses=responses(QueueError))
def create_sign_in_link(resources: ResourcesDep, caller: CallerDep) -> SignInLink:
    """Make a link that opens the console for this key, once, within a quarter of an hour. The
    session ends with the key.
    """
    token = resources.links.make(caller.api_key_id)
    return SignInLink(path=f"/console/sign-in#{token}", expires_in_s=LIFETIME_S)
