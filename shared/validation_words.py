"""Pydantic's errors in words: which field, its value, and what is allowed."""

import json
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from shared.suggestions import did_you_mean

MOST_FINDINGS = 100
"""Most errors that are described. Each takes a kilobyte for a moment, and a body can contain a
million.
"""

SHOWN_CHARS = 60
"""Longest value that is repeated in an error."""

UNSHOWN = frozenset({"secret"})
"""Fields whose values are never repeated."""


def describe_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """The errors of `model` in one line, each with its field, its value and what is allowed."""
    if error.error_count() > MOST_FINDINGS:
        return f"{error.error_count():,} of its values are not what they must be"
    return describe_findings(error.errors(include_url=False), model)


def describe_findings(errors: Iterable[Any], model: type[BaseModel] | None = None) -> str:
    """The same for errors that are listed already."""
    groups: dict[str, list[_Finding]] = {}
    for finding in _of_the_meant_forms([_located(one, model) for one in errors]):
        groups.setdefault(finding.place.path, []).append(finding)
    return " ".join(dict.fromkeys(_ended(_sentence(group)) for group in groups.values()))


class _Place(NamedTuple):
    """Where an error is."""

    path: str
    """The field's path, for example `options.format`; names of union members are left out."""
    models: Sequence[type[BaseModel]]
    """The models that the value may be, or that contain the unknown field."""
    field: FieldInfo | None
    union: bool
    """Whether the error is about one of several forms of the field."""
    form: tuple[str, str] | None
    """The path of a field that may be one of several models, and the model of this error."""


@dataclass(frozen=True, slots=True)
class _Finding:
    error: Any
    place: _Place


def _located(error: Any, model: type[BaseModel] | None) -> _Finding:
    path: list[str] = []
    models: Sequence[type[BaseModel]] = [model] if model else []
    field: FieldInfo | None = None
    union = False
    form: tuple[str, str] | None = None
    unknown = error["type"] == "extra_forbidden"
    location = error["loc"]
    for depth, part in enumerate(location):
        last = depth == len(location) - 1
        if isinstance(part, int):
            path.append(str(part))
            continue
        if unknown and last:
            break
        known = next((one.model_fields[part] for one in models if part in one.model_fields), None)
        if known is not None:
            path.append(part)
            field, models, union = known, _models_in(known.annotation), False
        elif field is None or _is_free(field.annotation):
            path.append(part)  # nothing is known about it: a header, a part of a free object
        else:
            union = True
            if named := [one for one in models if one.__name__ == part]:
                models, form = named, (".".join(path), part)
    return _Finding(error, _Place(".".join(path), models, field, union, form))


def _of_the_meant_forms(findings: Sequence[_Finding]) -> list[_Finding]:
    """Without the errors of other forms: where a field may be one of several models, only those of
    the model that fits best.
    """
    errors: dict[str, dict[str, list[int]]] = {}
    for finding in findings:
        if finding.place.form is not None:
            path, form = finding.place.form
            unknown = finding.error["type"] == "extra_forbidden"
            errors.setdefault(path, {}).setdefault(form, []).append(unknown)
    best = {
        path: min(forms, key=lambda form: (sum(forms[form]), len(forms[form])))
        for path, forms in errors.items()
    }
    return [
        one
        for one in findings
        if (
            one.place.path not in best if one.place.form is None else one.place.form in best.items()
        )
    ]


def _sentence(group: Sequence[_Finding]) -> str:
    """One sentence for all errors of one field."""
    first = group[0]
    if any(one.error["type"] == "extra_forbidden" for one in group):
        unknown = [one for one in group if one.error["type"] == "extra_forbidden"]
        return " ".join(dict.fromkeys(_unknown(one) for one in unknown))
    place, field = first.place, first.place.field
    own = [one for one in group if one.error["type"] == "value_error"]
    if own:
        text = str(own[0].error["msg"]).removeprefix("Value error, ")
        return f"{_named(place.path)}{text}" if place.path else text
    if place.union and field is not None and (len(group) > 1 or field.description):
        value = _shown(first)
        allowed = f". Allowed: {field.description}" if field.description else ""
        return f"`{place.path}`{value} is not allowed{allowed}".removesuffix(".")
    return _one(first)


def _unknown(finding: _Finding) -> str:
    name = str(finding.error["loc"][-1])
    shown = name if len(name) <= SHOWN_CHARS else name[:SHOWN_CHARS] + "…"
    place = finding.place
    names = {field for model in place.models for field in model.model_fields}
    kind = "option" if "format" in names else "field"
    where = f" in `{place.path}`" if place.path and place.path != "options" else ""
    return f"Unknown {kind} `{shown}`{where}. {did_you_mean(name, names)}"


def _one(finding: _Finding) -> str:
    """A sentence for one error of Pydantic's (https://docs.pydantic.dev/latest/errors/)."""
    error, path = finding.error, finding.place.path
    kind, context = error["type"], error.get("ctx", {})
    name = f"`{path}`" if path else "The body"
    if kind == "missing":
        if error["loc"] and isinstance(error["loc"][-1], int):
            return f"`{path.rpartition('.')[0]}` has too few entries"
        return f"{name} is missing"
    value = _shown(finding)
    if kind in ("enum", "literal_error"):
        return f"{name}{value} is not one of {_choices(context['expected'])}"
    if kind in ("too_short", "string_too_short") and context["min_length"] == 1:
        return f"{name} must not be empty"
    if kind in _WORDS:
        limits = {key: _plain(one) for key, one in context.items()}
        words = _WORDS[kind].format(**limits)
        return f"{name}{value} {words}"
    field = finding.place.field  # never the words of the library, which speak to programmers
    if field is not None and field.description:
        return f"{name}{value} is not allowed. Allowed: {field.description}".removesuffix(".")
    if kind == "string_pattern_mismatch":
        return f"{name}{value} must match {context['pattern']}"
    return f"{name}{value} is not allowed"


_WORDS = {
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "greater_than": "must be more than {gt}",
    "less_than": "must be less than {lt}",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "uuid_parsing": "is not an id",
    "uuid_type": "is not an id",
    "json_invalid": "is not valid JSON: {error}",
}


def _shown(finding: _Finding) -> str:
    """The value, if it is short and not a secret: ` "gif"`."""
    error, path = finding.error, finding.place.path
    value = error.get("input")  # left out where it may be secret
    if path.rpartition(".")[2] in UNSHOWN or not isinstance(value, str | int | float | bool):
        return ""
    if error["type"] == "json_invalid":
        return ""
    beginning = value[: SHOWN_CHARS + 1] if isinstance(value, str) else value
    text = json.dumps(beginning, ensure_ascii=False)
    return f" {text}" if len(text) <= SHOWN_CHARS else f" {text[:SHOWN_CHARS]}…"


def _named(path: str) -> str:
    return f"{path}: "


def _choices(expected: str) -> str:
    """`'png', 'webp' or 'jpeg'` without the quotation marks."""
    return expected.replace("'", "")


def _plain(limit: Any) -> Any:
    return f"{limit:g}" if isinstance(limit, float) else limit


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def _is_free(annotation: Any) -> bool:
    """Whether a value of this annotation has names of the caller's own."""
    return any((typing.get_origin(one) or one) is dict for one in _members(annotation))


def _members(annotation: Any) -> list[Any]:
    """The members of a union, those of its unions included."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [one for member in typing.get_args(annotation) for one in _members(member)]
    return [annotation]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value of this annotation is or contains."""
    found: list[type[BaseModel]] = []
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            found.append(member)
        elif typing.get_origin(member) is not None:
            for inner in typing.get_args(member):
                found += _models_in(inner)
    return found
