"""One-time links that sign a browser in: a random token in Redis that names an API key."""

import hashlib
import secrets
import uuid

from redis.exceptions import RedisError

from shared.errors import QueueError
from shared.redis_connection import redis_client
from shared.settings import Settings

TOKEN_PREFIX = "mtl_"  # noqa: S105  # tells a link's token from an API key
KEY_PREFIX = "matting:sign-in:"
LIFETIME_S = 900


class SignInLinks:
    """Makes tokens and takes them back, each once. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect yet."""
        self._redis = redis_client(settings, timeout_s=5)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def make(self, api_key_id: uuid.UUID) -> str:
        """A token that `take` accepts once, within `LIFETIME_S`. Raises QueueError."""
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        try:
            self._redis.set(_place(token), api_key_id.hex, ex=LIFETIME_S)
        except RedisError as error:
            raise QueueError(f"Redis did not keep the link: {error}") from error
        return token

    def take(self, token: str) -> uuid.UUID | None:
        """The key of a token, which works no more then; None if unknown. Raises QueueError."""
        try:
            found = self._redis.getdel(_place(token))
        except RedisError as error:
            raise QueueError(f"Redis did not answer about the link: {error}") from error
        return uuid.UUID(hex=found.decode()) if isinstance(found, bytes) else None


def _place(token: str) -> str:
    """Redis holds a hash, so that who reads it can't sign in."""
    return KEY_PREFIX + hashlib.sha256(token.encode()).hexdigest()
