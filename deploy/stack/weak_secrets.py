"""Refuses to prepare a system whose secrets anybody could guess."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from shared.errors import SetupError
from shared.settings import Settings

MIN_LENGTH = 12

KNOWN = ("minioadmin", "postgres", "password", "changeme", "change-me", "secret", "admin")
"""What examples and images come with, repeated or not."""

BESIDE = ("FLOWER_PASSWORD", "GRAFANA_PASSWORD")
"""Secrets of other parts; whoever prepares the system passes them for this check."""


def refuse_weak_secrets(settings: Settings, env: Mapping[str, str]) -> None:
    """Raises SetupError that names every weak secret, never its value."""
    weak = [name for name, value in _secrets(settings, env) if _is_weak(value)]
    if weak:
        raise SetupError(
            f"{', '.join(weak)}: shorter than {MIN_LENGTH} characters, or a well-known default. "
            "Make each with `openssl rand -hex 24`"
        )


def _secrets(settings: Settings, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    # A local server may need none: what counts is what is sent over a network.
    for url, name in (
        (settings.database_url, "MATTING_DATABASE_URL"),
        (settings.redis_url, "MATTING_REDIS_URL"),
    ):
        parts = urlsplit(url)
        if parts.hostname and parts.password is not None:
            yield f"the password in {name}", unquote(parts.password)
    if settings.aws_secret_access_key is not None:
        yield "AWS_SECRET_ACCESS_KEY", settings.aws_secret_access_key.get_secret_value()
    for name in BESIDE:
        if name in env:
            yield name, env[name]
    if "FLOWER_BASIC_AUTH" in env:
        for pair in env["FLOWER_BASIC_AUTH"].split(","):
            yield "the password in FLOWER_BASIC_AUTH", pair.partition(":")[2]


def _is_weak(value: str) -> bool:
    if len(value) < MIN_LENGTH or len(set(value)) < 5:
        return True
    return any(value.lower().replace(word, "") == "" for word in KNOWN)
