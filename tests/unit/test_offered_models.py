"""Which models a job and a redo may name."""

import uuid

import pytest

from api.sources.source_policy import SourcePolicy
from shared.errors import UnknownModelError
from shared.options import Options
from shared.settings import Settings

SECOND = Options(model="u2netp")


def test_only_a_redo_may_name_the_model_of_second_opinions() -> None:
    policy = SourcePolicy(Settings(), uuid.UUID(int=7))
    policy.options(SECOND, redo=True)
    with pytest.raises(UnknownModelError, match=r"Available: builtin$"):
        policy.options(SECOND)


def test_a_redo_names_no_second_model_where_none_is_loaded() -> None:
    policy = SourcePolicy(Settings(second_model="none"), uuid.UUID(int=7))
    with pytest.raises(UnknownModelError, match=r"Available: builtin$"):
        policy.options(SECOND, redo=True)
