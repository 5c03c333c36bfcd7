"""Sessions of the console: a signed cookie that names an API key, and its CSRF token."""

import secrets
import uuid
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeSerializer, URLSafeTimedSerializer

from shared.settings import Settings

COOKIE = "matting_session"


_own_secret = secrets.token_hex(32)


def secret_of(settings: Settings) -> str:
    """MATTING_SESSION_SECRET, or one that this process has made."""
    given = settings.session_secret
    return given.get_secret_value() if given is not None else _own_secret


@dataclass(frozen=True, slots=True)
class Session:
    """What a valid cookie says. The key may have been revoked since."""

    api_key_id: uuid.UUID
    nonce: str
    """Random; the CSRF token belongs to it."""


class Sessions:
    """Signs cookies and reads them. Nothing is stored: a session ends with its key or by time."""

    def __init__(self, settings: Settings) -> None:
        """Without MATTING_SESSION_SECRET, a secret is made: then sessions end with the process."""
        secret = secret_of(settings)
        self.lifetime_s = settings.session_s
        self._cookies = URLSafeTimedSerializer(secret, salt="matting.session")
        self._tokens = URLSafeSerializer(secret, salt="matting.csrf")

    def open(self, api_key_id: uuid.UUID) -> str:
        """The cookie of a new session of this key."""
        return self._cookies.dumps([api_key_id.hex, secrets.token_urlsafe(16)])

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None if it is forged, or has ended."""
        try:
            key, nonce = self._cookies.loads(cookie, max_age=self.lifetime_s)
            return Session(uuid.UUID(hex=key), str(nonce))
        except (BadData, ValueError, TypeError, AttributeError):
            return None

    def csrf_token(self, session: Session) -> str:
        """The token that a changing request of this session carries."""
        return self._tokens.dumps(session.nonce)

    def owns_token(self, session: Session, token: str) -> bool:
        """Whether the token belongs to this session."""
        try:
            return bool(self._tokens.loads(token) == session.nonce)
        except BadData:
            return False
