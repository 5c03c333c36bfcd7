"""Names of a job's zip file and reports."""

import uuid

import pytest

from api.routes.result_links import job_filename

JOB = uuid.UUID("01a21987-680f-7480-ad45-daaca7c163a2")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, str(JOB)),
        ({"name": ""}, str(JOB)),
        ({"name": " .. "}, str(JOB)),
        ({"name": "Spring 2026"}, "Spring 2026 a7c163a2"),
        ({"name": "../a\\b:c\n"}, "_a_b_c_ a7c163a2"),
        ({"name": 7}, "7 a7c163a2"),
    ],
)
def test_files_of_a_job_bear_its_name(metadata: dict[str, object], expected: str) -> None:
    assert job_filename(JOB, metadata) == expected
