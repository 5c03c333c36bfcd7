"""Requests made from the service's own description: no 5xx, no undocumented answer.

test_openapi.py runs this file in a process of its own. Its parametrisation makes all requests when
the file is collected, which takes 9 s of a core and half a gigabyte.
"""

import os
from typing import Any

import hypothesis
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import app

schema = schemathesis.openapi.from_dict(app.openapi())

EXAMPLES = 25
"""Requests per operation. All are generated from the description, valid and invalid ones."""


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_every_answer_is_documented(case: schemathesis.Case[Any]) -> None:
    """Whatever request an operation gets, its answer matches the description."""
    case.call_and_validate(
        base_url=os.environ["SERVICE_URL"],
        headers={"Authorization": f"Bearer {os.environ['SERVICE_KEY']}"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
        timeout=240,
    )
