"""/v1/uploads: presigned URLs for uploading files straight to the storage."""

from fastapi import APIRouter

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import ResourcesDep
from api.schemas.requests import UploadsRequest
from api.schemas.responses import UploadOut, UploadsOut
from api.submissions.intake import new_upload_key
from shared.errors import InvalidOptionsError

router = APIRouter(route_class=GuardedRoute, prefix="/v1/uploads", tags=["uploads"])


@router.post("", responses=responses(InvalidOptionsError))
def create_uploads(body: UploadsRequest, resources: ResourcesDep, caller: CallerDep) -> UploadsOut:
    """Get presigned upload URLs. Then submit a job with the returned handles."""
    keys = [new_upload_key(caller) for _ in range(body.count)]
    return UploadsOut(
        uploads=[
            UploadOut(
                upload=key,
                url=resources.storage.presign_put(key, ttl_s=resources.settings.upload_url_ttl_s),
            )
            for key in keys
        ]
    )
