"""Hostile bodies, forms, file names and addresses, one row per attack."""

import json

import httpx
import pytest

from tests.acceptance.hostile.api import assert_refused

pytestmark = pytest.mark.timeout(180)

DEEP = 100_000
NOWHERE = "0190a1b2-0000-7000-8000-000000000000"
"""An id that does not exist. It is constant because it appears in test names, which must be equal
in all processes.
"""


def nested(depth: int, opening: str, closing: str, middle: str = "1") -> str:
    return opening * depth + middle + closing * depth


def job_with(**fields: str) -> str:
    """A job's body with fields given as JSON text."""
    given = {"source": '{"keys": ["s3://photos/a.jpg"]}'} | fields
    return "{" + ", ".join(f'"{name}": {text}' for name, text in given.items()) + "}"


BODIES = {
    "an array without end": "[" * DEEP,
    "a deep array": nested(DEEP, "[", "]"),
    "a deep object": nested(DEEP, '{"source":', "}"),
    "deep metadata": job_with(metadata=nested(DEEP, '{"a":', "}")),
    "deep options": job_with(options='{"background": ' + nested(DEEP, "[", "]") + "}"),
    "deep options of a row": job_with(
        source='{"keys": [{"key": "a.jpg", "options": ' + nested(DEEP, '{"a":', "}") + "}]}"
    ),
    "a number beyond all": job_with(priority="1" + "0" * 100_000),
    "an infinite number": job_with(priority="1e999"),
    "not a number": job_with(priority="NaN"),
    "a share beyond all": job_with(failure_share="1e308"),
    "a count beyond the column": job_with(failure_after=str(2**31)),
    "a count far beyond the column": job_with(failure_after=str(2**63)),
    "a zero byte in a key": job_with(source='{"keys": ["s3://photos/a\\u0000.jpg"]}'),
    "a zero byte in metadata": job_with(metadata='{"a": "b\\u0000"}'),
    "a zero byte in a metadata name": job_with(metadata='{"a\\u0000": "b"}'),
    "a zero byte in an id": job_with(source='{"keys": [{"key": "a.jpg", "id": "\\u0000"}]}'),
    "a zero byte in a template": job_with(options='{"name": "a\\u0000{ext}"}'),
    "half a character": job_with(source='{"keys": ["s3://photos/\\ud800.jpg"]}'),
    "half a character in metadata": job_with(metadata='{"a": "\\udfff"}'),
    "a template that reads objects": job_with(options='{"name": "{stem.__class__}.{ext}"}'),
    "a template that pads": job_with(options='{"name": "{stem:>999999999}.{ext}"}'),
    "a template that leads away": job_with(options='{"name": "../../{stem}.{ext}"}'),
    "much metadata": job_with(metadata=json.dumps({str(n): "x" for n in range(51)})),
    "long metadata": job_with(metadata=json.dumps({"a": "x" * 1_000_000})),
    "a long key": job_with(source=json.dumps({"keys": ["x" * 2_000]})),
    "a field of a kind's own": job_with(__proto__="{}"),
    "a huge canvas": job_with(options='{"canvas": "99999x99999", "enlarge": true}'),
    "many outputs": job_with(
        options=json.dumps({"extra_outputs": [{"name": f"{n}.{{ext}}"} for n in range(1_000)]})
    ),
    "no UTF-8": b'{"source": {"keys": ["\xff\xfe"]}}'.decode("latin-1"),
    "a comment": "{/* */}",
    "nothing": "",
    "a text": '"source"',
    "two roots": "{}{}",
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_the_callers_problem(owner: httpx.Client, name: str) -> None:
    headers = {"Content-Type": "application/json"}
    content = BODIES[name].encode("latin-1" if name == "no UTF-8" else "utf-8")
    answer = owner.post("/v1/jobs", content=content, headers=headers)
    assert_refused(answer, 400, 403, 413, 422)
    assert len(answer.content) < 20_000, "what was sent is not sent back"
    for path in ("/v1.0/removebg", "/v1/webhooks", "/v1/uploads"):
        status = owner.post(path, content=content, headers=headers).status_code
        assert 400 <= status < 500, path


FORMS = {
    "options": [nested(DEEP, "[", "]"), '{"name": "\\u0000"}', "\ud7ff", "{" * DEEP, "NaN"],
    "metadata": [nested(DEEP, '{"a":', "}"), '{"a": "\\u0000"}', '{"a": "\\ud800"}', "[]", "1"],
    "priority": ["9" * 5_000, "-1", "NaN", "1e9", "\0"],
    "failure_after": [str(2**63), "0"],
}


@pytest.mark.parametrize("field", FORMS)
def test_a_hostile_field_of_a_form_is_the_callers_problem(
    owner: httpx.Client, jpeg: bytes, field: str
) -> None:
    for text in FORMS[field]:
        files = {"files": ("a.jpg", jpeg)}
        assert_refused(owner.post("/v1/jobs", files=files, data={field: text}), 400, 422)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../../etc/passwd", "etc/passwd"),
        ("C:\\windows\\x.jpg", "x.jpg"),
        ("\u202egpj.exe", "gpj.exe"),
        ("//server/share/x.jpg", "server/share/x.jpg"),
        (".", "unnamed"),
        ("..", "unnamed"),
        ("a/./b/../../c.jpg", "a/b/c.jpg"),
        ("a\x85b\x7f.jpg", "ab.jpg"),
    ],
)
def test_file_names_leave_no_folder(
    owner: httpx.Client, jpeg: bytes, name: str, plain: str
) -> None:
    answer = owner.post("/v1/jobs", files={"files": (name, jpeg)})
    assert answer.status_code == 202, answer.text
    [item] = owner.get(f"/v1/jobs/{answer.json()['id']}/items").json()["items"]
    assert item["name"] == plain


@pytest.mark.parametrize("name", ["x" * 100_000, "a\tb\r\nX: y"])
def test_file_names_cannot_inject_headers(owner: httpx.Client, jpeg: bytes, name: str) -> None:
    answer = owner.post("/v1/jobs", files={"files": (name, jpeg)})
    assert answer.status_code in (202, 400), answer.text


def test_parts_and_sizes_of_a_form_are_limited(owner: httpx.Client) -> None:
    many = [("files", (f"{n}.jpg", b"x")) for n in range(11)]
    assert_refused(owner.post("/v1/jobs", files=many), 400, 413)
    fields = {f"field{n}": "x" for n in range(50)}
    assert_refused(owner.post("/v1/jobs", files=many[:1], data=fields), 400, 413)
    large = [("files", ("a.jpg", bytes(5 * 1024**2)))]
    assert_refused(owner.post("/v1/jobs", files=large), 413)
    text = {"metadata": json.dumps({"a": "x" * 3_000_000})}
    assert_refused(owner.post("/v1/jobs", files=many[:1], data=text), 400, 413, 422)
    headers = {"Content-Type": "multipart/form-data; boundary=" + "b" * 100_000}
    assert owner.post("/v1/jobs", content=b"--b", headers=headers).status_code in (400, 431)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/jobs", {"limit": "1" + "0" * 30}),
        ("/v1/jobs", {"limit": "-1"}),
        ("/v1/jobs", {"cursor": "\0"}),
        ("/v1/jobs", {"cursor": "x" * 20_000}),
        ("/v1/jobs/%00", {}),
        ("/v1/jobs/..%2f..%2fetc%2fpasswd", {}),
        (f"/v1/items/{NOWHERE}/outputs/{10**40}", {}),
        (f"/v1/items/{NOWHERE}/outputs/-1", {}),
        ("/v1/jobs", {"metadata": "a\0=b"}),
        ("/v1/items", {"custom_id": "\0"}),
        ("/v1/usage", {"jobs": "1e9", "every_key": "\0"}),
        ("/v1/deliveries", {"status": "\0", "limit": "99999999999999999999"}),
        ("/static-offline-docs/../../../../etc/passwd", {}),
        ("/static-offline-docs/%2e%2e/%2e%2e/%2e%2e/etc/passwd", {}),
    ],
)
def test_a_hostile_address_is_the_callers_problem(
    owner: httpx.Client, path: str, params: dict[str, str]
) -> None:
    answer = owner.get(path, params=params)
    assert 400 <= answer.status_code < 500, answer.text
    assert "root:" not in answer.text


def test_an_id_that_no_database_stores_finds_nothing(owner: httpx.Client) -> None:
    job = owner.post("/v1/jobs", json={"source": {"keys": ["s3://photos/a.jpg"]}}).json()
    assert_refused(owner.get(f"/v1/jobs/{job['id']}/items", params={"custom_id": "\0"}), 422)


def test_a_sign_in_with_very_many_fields_is_refused(anyone: httpx.Client) -> None:
    headers = {
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    answer = anyone.post("/console/sign-in", headers=headers, content="key=mtk_x&" * 20)
    assert answer.status_code == 413, answer.text
