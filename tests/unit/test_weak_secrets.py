"""What `matting prepare` refuses to start with."""

import pytest

from deploy.weak_secrets import refuse_weak_secrets
from shared.errors import SetupError
from shared.settings import Settings

GOOD = "5d0c1f9a7be24486a1"


def settings(password: str, secret: str) -> Settings:
    return Settings.model_validate(
        {
            "database_url": f"postgresql+psycopg://matting:{password}@db.internal/matting",
            "aws_secret_access_key": secret,
        }
    )


def test_good_secrets_and_none_at_all_pass() -> None:
    refuse_weak_secrets(settings(GOOD, GOOD), {"FLOWER_PASSWORD": GOOD})
    refuse_weak_secrets(Settings(), {})


@pytest.mark.parametrize("weak", ["x", "minioadmin", "passwordpassword", "aaaaaaaaaaaaaa"])
def test_each_weak_one_is_named_and_none_is_shown(weak: str) -> None:
    with pytest.raises(SetupError) as caught:
        refuse_weak_secrets(settings(weak, weak), {"GRAFANA_PASSWORD": weak})
    said = caught.value.message
    for name in ("MATTING_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "GRAFANA_PASSWORD"):
        assert name in said
    assert weak == "x" or f"{weak}:" not in said
