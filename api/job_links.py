"""Links to a job's report and zip file that need no key: whoever holds one can fetch the file
until the link expires.
"""

import uuid
from typing import Any

from fastapi import Request
from itsdangerous import BadData, URLSafeTimedSerializer

from api.sessions import secret_of
from shared.settings import Settings

PARAMETER = "access"
"""The query parameter that holds the token of such a link."""


class JobLinks:
    """Makes and reads tokens. Nothing is stored: a link ends with its key, its job or by time."""

    def __init__(self, settings: Settings) -> None:
        """Without MATTING_SESSION_SECRET, links end with the process."""
        self.lifetime_s = settings.result_url_ttl_s
        self._tokens = URLSafeTimedSerializer(secret_of(settings), salt="matting.job-link")

    def link(self, path: str, api_key_id: uuid.UUID) -> str:
        """The path with a token that reads it for this key."""
        return f"{path}?{PARAMETER}={self._tokens.dumps([api_key_id.hex, path])}"

    def reader(self, request: Request) -> uuid.UUID | None:
        """The key for which the request's token reads its path; None if it does not, or no more."""
        try:
            read: Any = self._tokens.loads(request.query_params[PARAMETER], max_age=self.lifetime_s)
            key, path = read
            return uuid.UUID(hex=key) if path == request.url.path else None
        except (BadData, ValueError, TypeError, AttributeError):
            return None
