"""/v1/presets: the presets, and the rules of the marketplaces."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from shared.marketplaces import RULES, Market
from shared.presets import DESCRIPTIONS, PRESETS

router = APIRouter(route_class=GuardedRoute, prefix="/v1/presets", tags=["presets"])


class PresetOut(BaseModel):
    """A preset."""

    name: str = Field(examples=["amazon"], description="The value of the option `preset`.")
    description: str
    options: dict[str, Any] = Field(
        description="The options that it sets; each can also be set directly."
    )
    rules: dict[str, Any] | None = Field(
        description="The rules for the finished file, with source and date."
    )


class PresetList(BaseModel):
    """All presets."""

    presets: list[PresetOut]


@router.get("", responses=responses())
def list_presets(_caller: CallerDep) -> PresetList:
    """The presets and their options."""
    return PresetList(
        presets=[
            PresetOut(
                name=preset,
                description=DESCRIPTIONS[preset],
                options=options,
                rules=_rules(options.get("market")),
            )
            for preset, options in PRESETS.items()
        ]
    )


def _rules(market: str | None) -> dict[str, Any] | None:
    if market is None:
        return None
    return {name: value for name, value in asdict(RULES[Market(market)]).items() if value}
