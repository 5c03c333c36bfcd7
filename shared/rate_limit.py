"""The request rate of API keys: a token bucket in Redis, shared by all API processes."""

import math
import time
from dataclasses import dataclass
from typing import cast

from redis.exceptions import RedisError

from shared.outage_breaker import OutageBreaker
from shared.redis_connection import redis_client
from shared.settings import Settings
from shared.telemetry import get_logger

log = get_logger(__name__)

KEY_PREFIX = "matting:rate:"

WARN_EVERY_S = 60

SOCKET_TIMEOUT_S = 0.5
"""A request waits for no more than this, and once in `PROBE_S` only."""

PROBE_S = 5.0

# Redis runs the script atomically, by its own clock. The bucket holds the requests of one minute
# and refills evenly. It is stored as the tokens left and the time of the last request, and expires
# when full.
TAKE = """
local capacity = tonumber(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(stored[1]) or capacity
local at = tonumber(stored[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - at) * capacity / 60)
local taken = 0
if tokens >= 1 then
    tokens = tokens - 1
    taken = 1
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], 61)
return {taken, tostring(tokens)}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a key may still send after this request."""

    allowed: bool
    limit: int
    """Requests per minute, and the burst size."""
    remaining: int
    retry_after_s: int
    """Seconds until the next request is allowed; 0: now."""
    reset_s: int
    """Seconds until the bucket is full."""


class RateLimiter:
    """Counts requests by key. Thread-safe. While Redis is unavailable it allows every request."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect yet."""
        self._redis = redis_client(settings, timeout_s=SOCKET_TIMEOUT_S)
        self._breaker = OutageBreaker(PROBE_S)
        self._take = self._redis.register_script(TAKE)
        self._warn_at = 0.0

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def take(self, name: str, limit: int) -> Allowance:
        """Count one request of the key `name`, which may send `limit` per minute."""
        unlimited = Allowance(
            allowed=True, limit=limit, remaining=limit, retry_after_s=0, reset_s=0
        )
        if not self._breaker.lets_through():
            return unlimited
        try:
            taken, left = cast(
                tuple[int, bytes], self._take(keys=[KEY_PREFIX + name], args=[limit])
            )
        except RedisError as error:
            if time.monotonic() >= self._warn_at:
                self._warn_at = time.monotonic() + WARN_EVERY_S
                log.warning("rate-limit-off", detail=str(error))
            self._breaker.record(answered=False)
            return unlimited
        self._breaker.record(answered=True)
        tokens = float(left)
        return Allowance(
            allowed=bool(taken),
            limit=limit,
            remaining=int(tokens),
            retry_after_s=math.ceil(max(0.0, 1 - tokens) * 60 / limit),
            reset_s=math.ceil((limit - tokens) * 60 / limit),
        )
