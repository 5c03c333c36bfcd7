"""The check for weak secrets that `matting prepare` and `matting doctor` run."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from shared.errors import SetupError
from shared.settings import Settings

MIN_LENGTH = 12

WELL_KNOWN = ("minioadmin", "postgres", "password", "changeme", "change-me", "secret", "admin")
"""Default secrets of examples and images. A value that only repeats one of them is weak too."""

OTHER_SECRETS = ("FLOWER_PASSWORD", "GRAFANA_PASSWORD")
"""Secrets of other services, checked when they are in the environment. Compose keeps them out of
containers that do not need them by making them empty.
"""


def refuse_weak_secrets(settings: Settings, env: Mapping[str, str]) -> None:
    """Raise SetupError if a secret is weak. The message names the secrets, never their values."""
    weak = [name for name, value in _secrets(settings, env) if _is_weak(value)]
    if weak:
        raise SetupError(
            f"{', '.join(weak)}: shorter than {MIN_LENGTH} characters, or a well-known default. "
            "Create each with `openssl rand -hex 24`"
        )


def _secrets(settings: Settings, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    # A URL without a host or without a password is skipped: a local server may need none.
    for url, name in (
        (settings.database_url, "MATTING_DATABASE_URL"),
        (settings.database_direct_url, "MATTING_DATABASE_DIRECT_URL"),
        (settings.redis_url.split(";")[0], "MATTING_REDIS_URL"),
    ):
        parts = urlsplit(url or "")
        if parts.hostname and parts.password is not None:
            yield f"the password in {name}", unquote(parts.password)
    if settings.aws_secret_access_key is not None:
        yield "AWS_SECRET_ACCESS_KEY", settings.aws_secret_access_key.get_secret_value()
    if settings.session_secret is not None:
        yield "MATTING_SESSION_SECRET", settings.session_secret.get_secret_value()
    for name in OTHER_SECRETS:
        if env.get(name):
            yield name, env[name]
    if "FLOWER_BASIC_AUTH" in env:
        for pair in env["FLOWER_BASIC_AUTH"].split(","):
            yield "the password in FLOWER_BASIC_AUTH", pair.partition(":")[2]


def _is_weak(value: str) -> bool:
    if len(value) < MIN_LENGTH or len(set(value)) < 5:
        return True
    return any(value.lower().replace(word, "") == "" for word in WELL_KNOWN)
