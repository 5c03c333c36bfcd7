"""Whether a caller wants the picture or JSON, from its Accept headers (RFC 9110, 12.5.1)."""

from collections.abc import Sequence

JSON = "application/json"
PAGE = "text/html"


def wants_json(accept: Sequence[str], picture: str) -> bool:
    """Whether JSON is preferred to the picture. `accept`: the values of the header; `picture`: its
    media type.

    A caller that takes both alike gets the picture: axios and Angular send
    `application/json, text/plain, */*` with every request. So does a caller that would as soon
    have a page as JSON: n8n sends `application/json,text/html,…,image/*;q=0.8, */*;q=0.7`.
    """
    ranges = [one for value in accept for one in map(_range, value.split(",")) if one]
    json, seen = _weight(ranges, JSON), _weight(ranges, picture)
    takes_anything = seen > 0 and any(one == PAGE and weight >= json for one, weight in ranges)
    return json > seen and not takes_anything


def _range(text: str) -> tuple[str, float] | None:
    """A media range and its weight, 1 where none can be read."""
    kind, *parameters = (part.strip() for part in text.lower().split(";"))
    if not kind:
        return None
    weight = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = min(1.0, max(0.0, float(value)))
            except ValueError:
                weight = 1.0
    return kind, weight


def _weight(ranges: Sequence[tuple[str, float]], kind: str) -> float:
    """The weight of the most specific range that covers a media type; 0 if none does."""
    for wanted in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        found = [weight for one, weight in ranges if one == wanted]
        if found:
            return max(found)
    return 0.0
