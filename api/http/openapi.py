"""Completes the OpenAPI description: models named in texts, and errors that any operation may
return.
"""

from functools import cache
from typing import Any

from fastapi import FastAPI

from api.http.problems import MEDIA_TYPE, Problem, responses
from api.removebg import answers as removebg_answers
from api.removebg.parameters import RemoveBgRequest
from api.schemas.requests import JobRequest
from shared.errors import (
    AmbiguousRequestError,
    DatabaseError,
    InvalidOptionsError,
    MattingError,
    RequestError,
    RequestTooLargeError,
    SlowRequestError,
    UnsupportedEncodingError,
)

METHODS = frozenset({"get", "post", "put", "patch", "delete"})


def complete(app: FastAPI) -> None:
    """Make `app` describe itself completely. The description is made once: it takes half a second,
    and anyone may ask for it.
    """
    make = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        document = make()
        _name_once(document)
        _name_models(document)
        _simplify(document)
        for name, path in document["paths"].items():
            if name.startswith(removebg_answers.PATH):  # its errors have a different shape
                continue
            for method, operation in path.items():
                if method in METHODS:
                    _document_errors(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _name_once(document: dict[str, Any]) -> None:
    """Give a model one name, whether it is sent or received. FastAPI makes two of them where a
    response has computed fields; then the received form counts, because it takes all that is sent.
    """
    schemas = document["components"]["schemas"]
    for name in [one.removesuffix("-Input") for one in schemas if one.endswith("-Input")]:
        schemas[name] = schemas.pop(f"{name}-Input")
        schemas.pop(f"{name}-Output", None)
        for suffix in ("-Input", "-Output"):
            _refer(document, f"{_SCHEMAS}{name}{suffix}", f"{_SCHEMAS}{name}")


_SCHEMAS = "#/components/schemas/"


def _refer(node: Any, old: str, new: str) -> None:
    """Replace every reference to `old`."""
    if isinstance(node, dict):
        if node.get("$ref") == old:
            node["$ref"] = new
        for child in node.values():
            _refer(child, old, new)
    elif isinstance(node, list):
        for child in node:
            _refer(child, old, new)


def _name_models(document: dict[str, Any]) -> None:
    """Add models that descriptions mention but no endpoint declares."""
    schemas = document["components"]["schemas"]
    for model in (JobRequest, Problem, RemoveBgRequest):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, definition in schema.pop("$defs", {}).items():
            schemas.setdefault(name, definition)
        schemas.setdefault(model.__name__, schema)


def _simplify(node: Any) -> None:
    """Describe a tuple as a list of a fixed length, because generators give the two forms different
    types; and leave out `default: null`, which some of them take for a required
    field.
    """
    if isinstance(node, dict):
        if entries := node.pop("prefixItems", None):
            node["items"] = _any_of(entries)
        if "default" in node and node["default"] is None:
            del node["default"]
        for child in node.values():
            _simplify(child)
    elif isinstance(node, list):
        for child in node:
            _simplify(child)


def _any_of(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The description of whatever fits one of the entries."""
    different = [entry for index, entry in enumerate(entries) if entry not in entries[:index]]
    if all(entry in ({"type": "number"}, {"type": "integer"}) for entry in different):
        different.sort(key=lambda entry: entry["type"] != "number")
        return different[0]
    return different[0] if len(different) == 1 else {"anyOf": different}


def _document_errors(operation: dict[str, Any]) -> None:
    """Add the errors that any request of this shape may return."""
    common: list[type[MattingError]] = [AmbiguousRequestError]
    if operation.get("security"):
        common.append(DatabaseError)
    if "parameters" in operation or "requestBody" in operation:
        common.append(InvalidOptionsError)
    if "requestBody" in operation:
        common += [RequestError, RequestTooLargeError, SlowRequestError, UnsupportedEncodingError]
    known = operation["responses"]
    for status, entry in responses(*common).items():
        secured = status not in (401, 403, 429) or operation.get("security")
        if secured and MEDIA_TYPE not in known.get(str(status), {}).get("content", {}):
            known[str(status)] = entry
