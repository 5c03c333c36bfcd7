"""What clients write into Accept and into the headers of a form's parts."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.part_names import part_names
from api.removebg.accept import wants_json
from api.removebg.parameters import RemoveBgRequest

WORD = f"=?utf-8?B?{base64.b64encode('größe.jpg'.encode()).decode()}?="
N8N = (
    "application/json,text/html,application/xhtml+xml,application/xml,text/*;q=0.9, "
    "image/*;q=0.8, */*;q=0.7"
)


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ([], False),
        (["*/*"], False),
        (["application/json, text/plain, */*"], False),  # axios, Angular
        ([N8N], False),
        (["text/html,application/xhtml+xml,*/*;q=0.8"], False),  # a browser
        (["image/*, application/json;q=0.5"], False),
        (["image/png, application/json"], False),
        (["application/json;q=0"], False),
        (["application/json;q=0.1, */*;q=0.1"], False),
        (["text/html"], False),
        (["application/json"], True),
        (["APPLICATION/JSON; charset=utf-8"], True),
        (["application/json", "*/*;q=0.1"], True),
        (["application/json,text/*;q=0.99"], True),  # n8n that is told to expect JSON
        (["application/json, text/plain"], True),
        (["application/json;q=0.9, */*;q=0.1"], True),
        (["application/*"], True),
        (["application/json;q=0.9, image/png;q=0.2, */*"], True),  # the closest range counts
        (["application/json;q=high"], True),
    ],
)
def test_json_is_sent_only_where_it_is_preferred_to_the_picture(
    accept: list[str], json: bool
) -> None:
    assert wants_json(accept, "image/png") is json


@pytest.mark.parametrize(
    ("disposition", "field", "file"),
    [
        ('form-data; name="image_file"; filename="größe.jpg"', "image_file", "größe.jpg"),
        ("form-data; name=files; filename=größe.jpg", "files", "größe.jpg"),
        ("form-data; name=f; filename*=utf-8''gr%C3%B6%C3%9Fe.jpg", "f", "größe.jpg"),
        (f"form-data; name=f; filename=\"{WORD}\"; filename*=UTF-8''a%20b.jpg", "f", "a b.jpg"),
        (f'form-data; name=f; filename="{WORD}"', "f", "größe.jpg"),
        ('form-data; name=f; filename="=?utf-8?Q?gr=C3=B6_1.jpg?="', "f", "grö 1.jpg"),
        ('form-data; name=f; filename="=?nonsense?B?x?="', "f", "=?nonsense?B?x?="),
        ("form-data; name=f; filename*=iso-8859-1'de'%E4.jpg", "f", "ä.jpg"),
        ("form-data; name=f; filename*0=lo; filename*1=ng.jpg", "f", "long.jpg"),
        ('form-data; name="f"; filename="a\\"b.jpg"', "f", 'a"b.jpg'),  # Go
        ('form-data; name="f"; filename="a%22b 50%25.jpg"', "f", 'a"b 50%25.jpg'),  # browsers
        ('form-data; name="f"; filename="C:\\Users\\me\\a.jpg"', "f", "a.jpg"),
        ('Form-Data; Name="f"; FileName="a;b.jpg"', "f", "a;b.jpg"),
        ('form-data; name="files[]"; filename="a.jpg"', "files", "a.jpg"),  # PHP, axios
        ('form-data; name="files[12]"', "files", None),
        ('form-data; name="metadata[season]"', "metadata[season]", None),
        ('form-data; name="f"; filename=""', "f", ""),
    ],
)
def test_a_name_is_read_in_every_form_that_clients_send(
    disposition: str, field: str, file: str | None
) -> None:
    names = part_names(disposition.encode())
    assert names is not None
    assert (names.field, names.file) == (field, file)


@pytest.mark.parametrize("text", ["", "form-data", "form-data; name=f; filename*=x; filename*0=y"])
def test_a_part_without_a_readable_name_has_none(text: str) -> None:
    assert part_names(text.encode()) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_names_or_none(data: bytes) -> None:
    part_names(b"form-data; name=f; filename" + data)


@pytest.mark.parametrize("nothing", ["", "  ", None])
def test_an_empty_parameter_is_one_that_was_not_given(nothing: str | None) -> None:
    empty = RemoveBgRequest.model_validate(dict.fromkeys(RemoveBgRequest.model_fields, nothing))
    assert empty == RemoveBgRequest()


def test_parameters_come_as_json_numbers_and_in_any_case() -> None:
    asked = RemoveBgRequest.model_validate(
        {"size": "50mp", "format": "PNG", "type_level": 2, "bg_color": 112233, "crop": 1}
    )
    assert (asked.size, asked.format, asked.type_level) == ("50MP", "png", "2")
    assert (asked.bg_color, asked.crop) == ("112233", True)


@pytest.mark.parametrize(
    ("kind", "level", "shown"),
    [
        ("product", "", "product"),
        ("auto", "1", "other"),
        ("graphic", "1", "other"),
        ("graphic", "latest", "graphics"),
        ("Transportation", "2", "transportation"),
        ("car", "none", None),
    ],
)
def test_the_type_is_told_at_the_level_that_was_asked_for(
    kind: str, level: str, shown: str | None
) -> None:
    asked = RemoveBgRequest.model_validate({"type": kind, "type_level": level})
    assert asked.shown_type == shown
