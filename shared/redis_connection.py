"""How Redis is reached: one server, or the primary that Redis Sentinel names, with or without TLS.

Celery's transport and our own clients get the same address from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from shared.errors import SetupError
from shared.settings import Settings

SCHEMES = ("redis", "rediss", "sentinel")
SENTINEL_PORT = 26379


class _OneTry(Retry):
    """No retries. Workers tell Flower their transport options as JSON, so it has a JSON form."""

    def __init__(self) -> None:
        super().__init__(NoBackoff(), 0)

    def __json__(self) -> str:
        """Kombu's encoder calls this."""
        return "one try"


class _HiddenPassword(UsernamePasswordCredentialProvider):
    """The Sentinels' password, which Flower must not show."""

    def __json__(self) -> str:
        """Kombu's encoder calls this."""
        return "********"


SENTINEL_LIMITS: Mapping[str, Any] = {
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "retry": _OneTry(),
}
"""A Sentinel that is away must not delay each new connection: the next one is asked."""

TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)
"""What may follow `?` in the URL. The names are redis-py's and Kombu's."""


@dataclass(frozen=True)
class RedisAddress:
    """The parts of MATTING_REDIS_URL, checked."""

    broker_url: str
    """For Celery: the URL without its query, which Flower does not understand."""
    tls: Mapping[str, Any] = field(default_factory=dict)
    """redis-py's `ssl_…` arguments; empty: no TLS."""
    sentinels: tuple[tuple[str, int], ...] = ()
    """Host and port of each Sentinel; empty: the URL names Redis itself."""
    master: str = ""
    """The name by which the Sentinels know the primary."""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)
    """redis-py's arguments for the connections to the Sentinels."""

    @classmethod
    def of(cls, settings: Settings) -> "RedisAddress":
        """The address in these settings. Raises SetupError for one that is not supported."""
        first, *others = settings.redis_url.split(";")
        parts = urlsplit(first)
        if parts.scheme not in SCHEMES:
            raise SetupError(
                f"MATTING_REDIS_URL begins with {parts.scheme or 'no scheme'}; supported are "
                "redis://, rediss:// (TLS) and sentinel://"
            )
        tls = _tls(parts.scheme, ";".join([first, *others]))
        urls = [one.partition("?")[0] for one in (first, *others)]
        if parts.scheme != "sentinel":
            if others:
                raise SetupError(
                    "MATTING_REDIS_URL names several servers, which only sentinel:// allows"
                )
            return cls(urls[0], tls)
        if not settings.redis_sentinel_master:
            raise SetupError("MATTING_REDIS_URL is sentinel://: set MATTING_REDIS_SENTINEL_MASTER")
        password = settings.redis_sentinel_password
        options: dict[str, Any] = {**SENTINEL_LIMITS, **({"ssl": True, **tls} if tls else {})}
        if password is not None:
            hidden = _HiddenPassword(password=password.get_secret_value())
            options["credential_provider"] = hidden
        split = [urlsplit(one) for one in urls]
        return cls(
            ";".join(urls),
            tls,
            tuple((one.hostname or "127.0.0.1", one.port or SENTINEL_PORT) for one in split),
            settings.redis_sentinel_master,
            options,
        )

    def celery_options(self) -> dict[str, Any]:
        """Celery's settings of the broker, without its transport options."""
        return {"broker_url": self.broker_url, "broker_use_ssl": dict(self.tls) or None}

    def transport_options(self) -> dict[str, Any]:
        """Kombu's transport options for Sentinel."""
        if not self.sentinels:
            return {}
        return {"master_name": self.master, "sentinel_kwargs": dict(self.sentinel_options)}


def _tls(scheme: str, url: str) -> dict[str, Any]:
    """The `ssl_…` arguments. Certificates are verified unless the URL says otherwise."""
    given = dict(parse_qsl(url.partition("?")[2]))
    if unknown := sorted(given.keys() - TLS_OPTIONS):
        known = ", ".join(sorted(TLS_OPTIONS))
        raise SetupError(f"MATTING_REDIS_URL has {', '.join(unknown)}; known are {known}")
    if scheme == "redis" and given:
        raise SetupError("MATTING_REDIS_URL has TLS options: it must begin with rediss://")
    if scheme == "redis" or (scheme == "sentinel" and not given):
        return {}
    arguments: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **given}
    if arguments["ssl_cert_reqs"] == "none":
        arguments["ssl_check_hostname"] = False
    elif isinstance(arguments["ssl_check_hostname"], str):
        arguments["ssl_check_hostname"] = arguments["ssl_check_hostname"].lower() != "false"
    return arguments


def redis_client(settings: Settings, *, timeout_s: float) -> Redis:
    """A client that tries each command once, within `timeout_s` per answer. Does not connect yet.

    Raises SetupError for an address that is not supported.
    """
    address = RedisAddress.of(settings)
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": _OneTry(),  # its own default is to try ten times
        "protocol": 2,
    }
    if not address.sentinels:
        client: Redis = Redis.from_url(address.broker_url, **address.tls, **options)
        return client
    parts = urlsplit(address.broker_url.split(";")[0])
    login = {
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "db": int(parts.path.strip("/") or 0),
    }
    secure = {"ssl": True, **address.tls} if address.tls else {}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's, which has no types
        list(address.sentinels), sentinel_kwargs={**address.sentinel_options, "protocol": 2}
    )
    primary: Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        address.master, **login, **secure, **options
    )
    return primary


def refuse_cluster(settings: Settings) -> None:
    """Raise SetupError if Redis is a cluster: Celery's queues are several keys, which a cluster
    spreads over its nodes. A Redis that does not answer is no reason to stop.
    """
    client = redis_client(settings, timeout_s=5)
    try:
        clustered = client.info("cluster").get("cluster_enabled")
    except RedisError:
        return
    finally:
        client.close()
    if clustered:
        raise SetupError(
            "MATTING_REDIS_URL is a Redis Cluster, which Celery does not support. Use a server "
            "without cluster mode (ElastiCache: cluster mode disabled), or Sentinel"
        )
