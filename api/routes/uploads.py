"""/v1/uploads: URLs that files are PUT to, straight into the storage."""

from fastapi import APIRouter

from api.auth import CallerDep
from api.bodies import UploadsRequest
from api.intake import new_upload_key
from api.parts import PartsDep
from api.problems import responses
from api.schemas import UploadOut, UploadsOut
from shared.errors import InvalidOptionsError

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])


@router.post("", responses=responses(InvalidOptionsError))
def create_uploads(body: UploadsRequest, parts: PartsDep, caller: CallerDep) -> UploadsOut:
    """Get URLs to send files to; then submit a job that names the handles."""
    keys = [new_upload_key(caller) for _ in range(body.count)]
    return UploadsOut(
        uploads=[
            UploadOut(
                upload=key,
                url=parts.storage.presign_put(key, ttl_s=parts.settings.upload_url_ttl_s),
            )
            for key in keys
        ]
    )
