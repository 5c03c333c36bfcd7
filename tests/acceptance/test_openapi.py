"""The running service against its own OpenAPI description: no 5xx, no undocumented answer."""

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
from deploy.stack.stack import Stack

schema = schemathesis.openapi.from_dict(app.openapi())

EXAMPLES = 25
"""Requests per operation. All are generated from the description, valid and invalid ones."""


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_every_answer_is_documented(case: schemathesis.Case[Any], stack: Stack) -> None:
    """Whatever request an operation gets, its answer matches the description."""
    case.call_and_validate(
        base_url=stack.address.api_url,
        headers={"Authorization": f"Bearer {stack.secrets.api_key}"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
        timeout=30,
    )
