"""How pip-audit's report is judged."""

from typing import Any

from deploy.maintenance.audit import verdict

CANARY: dict[str, Any] = {
    "name": "django",
    "version": "2.2",
    "vulns": [{"id": "PYSEC-2", "fix_versions": ["2.2.1"]}],
}
CLEAN = {"name": "redis", "version": "7.0", "vulns": []}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}
WEAK: dict[str, Any] = {
    "name": "pillow",
    "version": "11.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["11.1", "12.0"]}],
}


def test_a_known_vulnerability_fails_the_build_and_names_the_fixed_version() -> None:
    status, lines = verdict({"dependencies": [CLEAN, WEAK, CANARY]})
    assert status == 1
    assert lines[0] == "pillow 11.0: PYSEC-1 (fixed in 11.1, 12.0)"


def test_no_known_vulnerability_passes() -> None:
    assert verdict({"dependencies": [CLEAN, CANARY]}) == (
        0,
        ["1 of 1 packages audited, 0 vulnerabilities"],
    )


def test_packages_that_could_not_be_checked_pass_with_a_warning() -> None:
    for report in ({}, {"dependencies": [UNKNOWN]}, {"dependencies": [CLEAN, UNKNOWN]}):
        status, lines = verdict(report)
        assert status == 0
        assert "::warning::" in lines[-1]


def test_an_index_without_any_vulnerability_fails() -> None:
    for canary in ([], [{**CANARY, "vulns": []}], [{"name": "django", "skip_reason": "x"}]):
        status, lines = verdict({"dependencies": [CLEAN, *canary]})
        assert status == 0
        assert lines[0] == "1 of 1 packages audited, 0 vulnerabilities"
        assert "::warning::" in lines[-1]
