"""The values of options in words, from their JSON schema."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Style:
    """How words are written."""

    code: Callable[[str], str] = str
    """What is typed as it stands."""
    reference: Callable[[str], str] = lambda name: f"an object ({name})"
    """The name of an object that has its own fields."""


PLAIN = Style()


def values_in_words(field: Schema, definitions: Schema, style: Style = PLAIN) -> str:
    """The allowed values of a field of the JSON schema, such as `png, webp` or `1 to 100`."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        if "enum" not in definitions[name]:
            return style.reference(name)
        return values_in_words(definitions[name], definitions, style)
    if "anyOf" in field:
        forms = [one for one in field["anyOf"] if one.get("type") != "null"]
        kinds = [values_in_words(one, definitions, style) for one in forms]
        return ", or ".join(dict.fromkeys(kinds))
    if "enum" in field or "const" in field:
        return ", ".join(style.code(str(one)) for one in field.get("enum", [field.get("const")]))
    if field["type"] == "array":
        return _list_of(field, definitions, style)
    if "examples" in field:
        return "such as " + ", ".join(style.code(one) for one in field["examples"])
    if field["type"] == "boolean":
        return ", ".join(style.code(one) for one in ("true", "false"))
    words = {"integer": "whole number", "string": "text"}
    kind = str(field["type"])
    return " ".join([words.get(kind, kind), *_bounds(field)])


def default_in_words(field: Schema, style: Style = PLAIN) -> str:
    """The default of a field; empty if it has none."""
    default = field.get("default")
    if default in (None, [], ""):
        return ""
    return style.code(default if isinstance(default, str) else json.dumps(default))


def _list_of(field: Schema, definitions: Schema, style: Style) -> str:
    if "prefixItems" in field:
        entries = field["prefixItems"]
        return f"list of {len(entries)}: {values_in_words(entries[0], definitions, style)}"
    most = f" (at most {field['maxItems']})" if "maxItems" in field else ""
    return f"list of {values_in_words(field['items'], definitions, style)}{most}"


def _bounds(field: Schema) -> list[str]:
    least, most = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    if least is not None and most is not None:
        return [f"{least:g} to {most:g}"]
    words = {"from": least, "above": above, "up to": most, "below": below}
    return [f"{word} {value:g}" for word, value in words.items() if value is not None]
