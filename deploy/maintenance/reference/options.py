"""The reference page of a job's options, from the JSON schema of `shared.options.Options`."""

import json
from collections.abc import Sequence
from typing import Any

from deploy.maintenance.reference.markdown import code, page, table
from deploy.option_values import Style, default_in_words, values_in_words
from shared.marketplaces import RULES, MarketRules
from shared.options import Options
from shared.presets import DESCRIPTIONS, PRESETS
from shared.result_names import KNOWN

INTRODUCTION = """\
Options go into `options` of `POST /v1/jobs`, into a manifest's column `options` (JSON) or
`options.NAME`, and behind `--option NAME=VALUE` of `matting submit` and `matting cutout`. Every one
can be left out. An image's own options take precedence over its job's. An unknown name is refused
with `invalid-options`.

The geometry is applied in this order: the subject's bounding box is found; `crop` cuts to it with
`crop_margin`; `canvas` is the frame that the picture is put into; `scale` or `padding` sizes the
subject against that frame and `position` places it; `max_side_px` and `max_megapixels` shrink the
result. The result is larger than the photo only with `enlarge`."""

PRESETS_TEXT = """\
A preset is a set of the options above. An option that you give beside it takes precedence.
`GET /v1/presets` answers with the same."""

PLACEHOLDERS_TEXT = """\
`name` and the job's `destination` may hold these, in braces. `destination` takes no `{width}` and
no `{height}`: they are known too late."""

PLACEHOLDERS = {
    "path": "Folder and name of the photo, without its extension: `spring/shoe`.",
    "name": "Its name, without folder and extension: `shoe`. `{stem}` is the same.",
    "folder": "Its folder: `spring`.",
    "n": "Its number in the job, from 1.",
    "ext": "The extension of the result: `png`.",
    "width": "The width of the result in pixels; `{height}` its height.",
    "id": "Your own id of the photo, from a manifest or a list.",
    "any other": "The manifest's column of that name, such as `{sku}`.",
}

MARKETS_TEXT = """\
`market` checks the finished file against these rules; `outputs[].unmet` of the item lists the rules
that it fails. Check a rule at its source before you rely on it: marketplaces change them."""

RULES_IN_WORDS = {
    "white_background": "background exactly #ffffff",
    "ratio": "width / height = {:.4g}",
    "min_width_px": "width ≥ {:,} px",
    "min_height_px": "height ≥ {:,} px",
    "min_longest_px": "longer side ≥ {:,} px",
    "max_longest_px": "longer side ≤ {:,} px",
    "max_megapixels": "≤ {:g} megapixels",
    "min_bytes": "≥ {:,} bytes",
    "max_bytes": "≤ {:,} bytes",
    "min_fill": "subject ≥ {:.0%} of the frame",
    "max_fill": "subject ≤ {:.0%} of the frame",
    "min_subject_px": "both sides of the subject ≥ {:,} px",
}


STYLE = Style(code=code, reference=lambda name: f"[{name}](#{name.lower()})")


def options_page() -> str:
    """The options, the objects that some of them contain, presets, and marketplaces."""
    schema = Options.model_json_schema()
    parts = [_fields(schema, schema["properties"])]
    for name, model in sorted(schema["$defs"].items()):
        if model.get("type") == "object":
            parts += [f"## {name}", _in_one_line(model.get("description", ""))]
            parts += _own_fields(model, schema)
    listed = [
        [code(f"{{{name}}}") if name in KNOWN else name, text]
        for name, text in PLACEHOLDERS.items()
    ]
    parts += ["## Placeholders", PLACEHOLDERS_TEXT, table(["placeholder", "stands for"], listed)]
    parts += ["## Presets", PRESETS_TEXT, _presets(), "## Marketplaces", MARKETS_TEXT, _markets()]
    return page("Options", INTRODUCTION, *parts)


def _own_fields(model: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The table of an object's fields; fields that are also job options are only listed."""
    options, fields = schema["properties"], model["properties"]
    same = [name for name in fields if fields[name] == options.get(name)]
    own = {name: field for name, field in fields.items() if name not in same}
    listed = f"Fields that mean the same as above: {', '.join(map(code, same))}."
    return [_fields(schema, own, model.get("required", ())), *([listed] if same else [])]


def _fields(schema: dict[str, Any], fields: dict[str, Any], required: Sequence[str] = ()) -> str:
    definitions = schema["$defs"]
    return table(
        ["option", "values", "default", "meaning"],
        (
            [
                code(name),
                values_in_words(field, definitions, STYLE),
                "required" if name in required else default_in_words(field, STYLE),
                field.get("description", ""),
            ]
            for name, field in fields.items()
        ),
    )


def _presets() -> str:
    return table(
        ["preset", "for", "options"],
        (
            [code(one), DESCRIPTIONS[one], code(json.dumps(options, ensure_ascii=False))]
            for one, options in PRESETS.items()
        ),
    )


def _markets() -> str:
    return table(
        ["marketplace", "formats", "rules", "source", "checked"],
        (
            [code(market), ", ".join(rules.formats), _rules(rules), rules.source, rules.read]
            for market, rules in RULES.items()
        ),
    )


def _rules(rules: MarketRules) -> str:
    values = ((words, getattr(rules, name)) for name, words in RULES_IN_WORDS.items())
    return "; ".join(words.format(value) for words, value in values if value)


def _in_one_line(text: str) -> str:
    return " ".join(text.split())
