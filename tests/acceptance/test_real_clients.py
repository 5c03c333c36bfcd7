"""Requests as real clients write them, byte for byte; docs/clients.md lists them."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import PIL.Image
import pytest

from api.client import MattingClient
from deploy.stack.stack import Stack
from tests.acceptance.test_keys import KeyMaker, new_key

__all__ = ["new_key"]

WORD = f"=?utf-8?B?{base64.b64encode('größe.jpg'.encode()).decode()}?="
PHOTO = "<photo>"
"""Stands for the photo's bytes."""


@dataclass(frozen=True)
class Sent:
    """The parts of a form: the headers of each, and its content."""

    parts: list[tuple[str, str]]
    headers: dict[str, str] = field(default_factory=dict)
    boundary: str = "x"


def disposition(text: str) -> str:
    return f"Content-Disposition: form-data; {text}"


REMOVEBG = {
    "curl": Sent(
        [
            (f'{disposition("""name="image_file"; filename="größe.jpg" """)}', PHOTO),
            (disposition('name="size"'), "auto"),
        ]
    ),
    "axios": Sent(
        [
            (disposition('name="size"'), "auto"),
            (disposition('name="image_file"; filename="shoe.jpg"'), PHOTO),
        ],
        {"Accept": "application/json, text/plain, */*"},
    ),
    "fetch with a Blob": Sent([(disposition('name="image_file"; filename="blob"'), PHOTO)]),
    "PHP, Guzzle": Sent(
        [
            (disposition('name="image_file"; filename="a.png"') + "\r\nContent-Length: 9", PHOTO),
            (disposition('name="crop"') + "\r\nContent-Length: 0", ""),  # false
            (disposition('name="semitransparency"') + "\r\nContent-Length: 1", "1"),  # true
        ]
    ),
    "Go": Sent(
        [
            (
                disposition('name="image_file"; filename="a\\"b.jpg"')
                + "\r\nContent-Type: application/octet-stream",
                PHOTO,
            ),
            (disposition('name="type_level"'), "none"),
        ]
    ),
    ".NET": Sent(
        [
            (
                disposition(
                    f"name=image_file; filename=\"{WORD}\"; filename*=utf-8''gr%C3%B6%C3%9Fe.jpg"
                ),
                PHOTO,
            ),
            ("Content-Type: text/plain; charset=utf-8\r\n" + disposition("name=size"), "preview"),
        ],
        boundary="6f9b1a2c-0d4e",
    ),
    ".NET without a file name": Sent([(disposition("name=image_file"), PHOTO)]),
    "filename* alone": Sent(
        [(disposition("name=\"image_file\"; filename*=utf-8''gr%C3%B6%C3%9Fe.jpg"), PHOTO)]
    ),
    "an HTML form": Sent(
        [
            (disposition('name="image_file"; filename="C:\\a.jpg"'), PHOTO),
            (disposition('name="bg_image_file"; filename=""'), ""),
            (disposition('name="image_url"'), ""),
            (disposition('name="crop"'), ""),
            (disposition('name="add_shadow"'), ""),
            (disposition('name="bg_color"'), ""),
        ]
    ),
    "n8n": Sent(
        [(disposition('name="image_file"; filename="data"'), PHOTO)],
        {
            "Accept": "application/json,text/html,application/xhtml+xml,application/xml,"
            "text/*;q=0.9, image/*;q=0.8, */*;q=0.7"
        },
    ),
}


@pytest.fixture
def host(stack: Stack) -> Iterator[httpx.Client]:
    url, headers = stack.address.api_url, {"X-Api-Key": stack.secrets.api_key}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        yield client


def send(host: httpx.Client, path: str, sent: Sent, photo: bytes) -> httpx.Response:
    mark = f"--{sent.boundary}".encode()
    body = b"".join(
        mark
        + b"\r\n"
        + headers.strip().encode()
        + b"\r\n\r\n"
        + (photo if content == PHOTO else content.encode())
        + b"\r\n"
        for headers, content in sent.parts
    )
    kind = f'multipart/form-data; boundary="{sent.boundary}"'
    return host.post(
        path, content=body + mark + b"--\r\n", headers={"Content-Type": kind, **sent.headers}
    )


@pytest.mark.parametrize("client", REMOVEBG)
def test_a_client_of_remove_bg_gets_its_picture(
    host: httpx.Client, jpeg: bytes, client: str
) -> None:
    answer = send(host, "/v1.0/removebg", REMOVEBG[client], jpeg)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert PIL.Image.open(io.BytesIO(answer.content)).format == "PNG"
    assert ("x-type" in answer.headers) is (client != "Go")


def test_json_as_zapier_and_low_code_tools_write_it(host: httpx.Client, jpeg: bytes) -> None:
    body = {
        "image_file_b64": base64.b64encode(jpeg).decode(),
        "image_url": "",
        "size": "50MP",
        "crop": "",
        "add_shadow": None,
        "type_level": 1,
        "bg_color": None,
    }
    answer = host.post("/v1.0/removebg", json=body, headers={"Accept": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["result_b64"]
    answer = host.post(
        "/v1.0/removebg", json=body, headers={"Content-Type": "application/vnd.api+json"}
    )
    assert answer.headers["content-type"] == "image/png"
    with_mark = b"\xef\xbb\xbf" + httpx.Request("POST", "http://x", json=body).read()
    answer = host.post(
        "/v1.0/removebg", content=with_mark, headers={"Content-Type": "application/json"}
    )
    assert answer.headers["content-type"] == "image/png"


def test_a_job_takes_the_names_that_clients_write(
    host: httpx.Client, client: MattingClient, jpeg: bytes
) -> None:
    word = f"name=files; filename=\"{WORD}\"; filename*=utf-8''gr%C3%B6%C3%9Fe.jpg"
    sent = Sent(
        [
            (disposition(word), PHOTO),
            (disposition("name=\"files\"; filename*=utf-8''%E9%9D%B4.jpg"), PHOTO),
            (disposition('name="files[]"; filename="list.jpg"'), PHOTO),
            (disposition('name="files"; filename=""'), ""),  # a field that nobody touched
            (disposition('name="manifest"; filename=""'), ""),
            (disposition('name="priority"'), ""),
            (disposition('name="metadata"'), ""),
            (
                disposition('name="options"; filename="blob"')
                + "\r\nContent-Type: application/json",
                '{"format": "webp"}',
            ),
        ]
    )
    answer = send(host, "/v1/jobs", sent, jpeg)
    assert answer.status_code == 202, answer.text
    job = client.wait(answer.json()["id"])
    items = list(client.items(job["id"]))
    assert [item["name"] for item in items] == ["größe.jpg", "靴.jpg", "list.jpg"]
    assert {item["result_format"] for item in items} == {"webp"}
    unknown = Sent([*sent.parts, (disposition('name="photo"; filename="b.jpg"'), PHOTO)])
    refused = send(host, "/v1/jobs", unknown, jpeg)
    assert refused.status_code == 400
    assert "`photo`" in refused.json()["detail"], "no file is left out in silence"


def test_limits_are_told_with_the_headers_that_clients_wait_by(
    host: httpx.Client, jpeg: bytes, new_key: KeyMaker
) -> None:
    new_key("--quota", "0", "--rate", "1")
    poor = {"X-Api-Key": new_key.secret}
    files = {"image_file": ("x.jpg", jpeg)}
    first, second = (host.post("/v1.0/removebg", files=files, headers=poor) for _ in range(2))
    assert (first.status_code, first.json()["errors"][0]["code"]) == (402, "insufficient_credits")
    assert first.headers["x-ratelimit-limit"] == "1"
    assert (second.status_code, second.json()["errors"][0]["code"]) == (429, "rate_limit_exceeded")
    assert int(second.headers["retry-after"]) > 0
    assert second.headers["x-ratelimit-remaining"] == "0"
    assert int(second.headers["x-ratelimit-reset"]) > 1_700_000_000


def test_a_background_that_cannot_be_had_is_told_apart_from_the_photo(
    host: httpx.Client, jpeg: bytes
) -> None:
    answer = host.post(
        "/v1.0/removebg",
        files={"image_file": ("x.jpg", jpeg)},
        data={"bg_image_url": "http://127.0.0.1:9/"},
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "invalid_bg_image_url"
