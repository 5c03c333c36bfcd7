"""Secrets that `matting prepare` refuses to start with."""

import pytest

from deploy.stack.weak_secrets import refuse_weak_secrets
from shared.errors import SetupError
from shared.settings import Settings

GOOD = "5d0c1f9a7be24486a1"


def settings(password: str, secret: str) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": f"rediss://:{password}@redis.internal:6379/0",
            "database_url": f"postgresql+psycopg://matting:{password}@db.internal/matting",
            "aws_secret_access_key": secret,
        }
    )


def test_strong_secrets_and_unset_secrets_pass() -> None:
    refuse_weak_secrets(
        settings(GOOD, GOOD), {"FLOWER_PASSWORD": GOOD, "FLOWER_BASIC_AUTH": f"me:{GOOD}"}
    )
    refuse_weak_secrets(Settings(), {})


@pytest.mark.parametrize("weak", ["x", "minioadmin", "passwordpassword", "aaaaaaaaaaaaaa"])
def test_weak_secrets_are_named_but_not_shown(weak: str) -> None:
    beside = {"GRAFANA_PASSWORD": weak, "FLOWER_BASIC_AUTH": f"a:{GOOD},b:{weak}"}
    with pytest.raises(SetupError) as caught:
        refuse_weak_secrets(settings(weak, weak), beside)
    said = caught.value.message
    for name in (
        "MATTING_DATABASE_URL",
        "MATTING_REDIS_URL",
        "AWS_SECRET_ACCESS_KEY",
        "GRAFANA_PASSWORD",
        "FLOWER_BASIC_AUTH",
    ):
        assert name in said
    assert weak == "x" or f"{weak}:" not in said
