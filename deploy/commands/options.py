"""`matting options`: a job's options, their values and meaning; and their shell completion."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from deploy.commands.progress import output
from deploy.option_values import default_in_words, values_in_words
from deploy.terminal_text import escape_lines
from shared.options import Options
from shared.presets import DESCRIPTIONS, PRESETS
from shared.suggestions import did_you_mean


def options(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this option only.",
            autocompletion=lambda incomplete: [
                one for one in sorted(Options.model_fields) if one.startswith(incomplete)
            ],
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON schema of the options.")
    ] = False,
) -> None:
    """List the options for `--option`: their meaning, values and defaults."""
    schema = Options.model_json_schema()
    fields: dict[str, Any] = schema["properties"]
    if name is not None and name not in fields:
        raise typer.BadParameter(f"Unknown option `{name}`. {did_you_mean(name, fields)}")
    if as_json:
        typer.echo(json.dumps(schema if name is None else {**fields[name], **_named(schema)}))
    elif name is None:
        table = Table("option", "meaning, values, default", box=None, pad_edge=False)
        for one, field in sorted(fields.items()):
            table.add_row(one, escape_lines(f"{_first_sentence(field)}\n{_values(field, schema)}"))
        output().print(table)
        output().print("\n`matting options NAME` explains one.", markup=False)
    else:
        _explain(name, fields[name], schema)


def _explain(name: str, field: dict[str, Any], schema: dict[str, Any]) -> None:
    console = output()
    console.print(f"{name}: {field.get('description', '')}", markup=False)
    console.print(f"Values: {values_in_words(field, schema['$defs'])}", markup=False)
    if default := default_in_words(field):
        console.print(f"Default: {default}", markup=False)
    for kind in _objects(field, schema):
        model = schema["$defs"][kind]
        console.print(f"{kind}, written as JSON: {_first_sentence(model)}", markup=False)
        for one, of_it in model["properties"].items():
            told = f"{one}: {_first_sentence(of_it)} {_values(of_it, schema)}"
            console.print(f"  {told}", markup=False)
    if name == "preset":
        for preset, text in DESCRIPTIONS.items():
            console.print(f"  {preset.value}: {text}", markup=False)
            listed = ", ".join(f"{key}={_typed(value)}" for key, value in PRESETS[preset].items())
            console.print(f"    {listed}", markup=False)


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    """The objects that an option's schema refers to."""
    return {"$defs": schema["$defs"]}


def _first_sentence(field: dict[str, Any]) -> str:
    text = " ".join(field.get("description", "").split())
    return text.partition(". ")[0].rstrip(".") + "." if text else ""


def _values(field: dict[str, Any], schema: dict[str, Any]) -> str:
    default = default_in_words(field)
    told = f"; default {default}" if default else ""
    return f"{values_in_words(field, schema['$defs'])}{told}"


def _objects(field: Any, schema: dict[str, Any]) -> list[str]:
    """Names of the objects that the option may hold, also inside a list."""
    if isinstance(field, list):
        return [name for one in field for name in _objects(one, schema)]
    if not isinstance(field, dict):
        return []
    if "$ref" in field:
        name = str(field["$ref"].rpartition("/")[2])
        return [name] if "properties" in schema["$defs"][name] else []
    return [name for part in ("anyOf", "items") for name in _objects(field.get(part), schema)]


def _typed(value: Any) -> str:
    """A value as it is typed behind `=`."""
    return value if isinstance(value, str) else json.dumps(value)


def complete_option(incomplete: str) -> list[str]:
    """Shell completion of `--option`: names first, then the values of the named one."""
    name, separator, value = incomplete.partition("=")
    if not separator:
        return [f"{one}=" for one in sorted(Options.model_fields) if one.startswith(name)]
    schema = Options.model_json_schema()
    field = schema["properties"].get(name)
    return [f"{name}={one}" for one in _choices(field, schema["$defs"]) if one.startswith(value)]


def _choices(field: Any, definitions: dict[str, Any]) -> list[str]:
    """The named values of a field."""
    if field is None:
        return []
    if "$ref" in field:
        return _choices(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in field:
        return [value for one in field["anyOf"] for value in _choices(one, definitions)]
    if field.get("type") == "boolean":
        return ["true", "false"]
    values = field.get("enum", [field["const"]] if "const" in field else [])
    return [str(one) for one in values]
