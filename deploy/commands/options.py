"""`matting options`: a job's options, their values and meaning; and their shell completion."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from deploy.commands.progress import output
from deploy.option_values import default_in_words, values_in_words
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
) -> None:
    """List the options for `--option`: their values, defaults and meaning."""
    schema = Options.model_json_schema()
    fields: dict[str, Any] = schema["properties"]
    if name is None:
        table = Table("option", "values", "default", box=None, pad_edge=False)
        for one, field in sorted(fields.items()):
            values = values_in_words(field, schema["$defs"])
            table.add_row(one, escape(values), escape(default_in_words(field)))
        output().print(table)
        output().print("\n`matting options NAME` explains one.", markup=False)
        return
    if name not in fields:
        raise typer.BadParameter(f"Unknown option `{name}`. {did_you_mean(name, fields)}")
    field = fields[name]
    console = output()
    console.print(f"{name}: {field.get('description', '')}", markup=False)
    console.print(f"Values: {values_in_words(field, schema['$defs'])}", markup=False)
    if default := default_in_words(field):
        console.print(f"Default: {default}", markup=False)
    if name == "preset":
        for preset, text in DESCRIPTIONS.items():
            console.print(f"  {preset.value}: {text}", markup=False)
            listed = ", ".join(f"{key}={value}" for key, value in PRESETS[preset].items())
            console.print(f"    {listed}", markup=False)


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
