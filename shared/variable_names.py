"""Refuses variables that look like a setting and are none: a misspelt one would do nothing."""

import re
from collections.abc import Iterable, Mapping

from shared.errors import UnknownSettingError
from shared.suggestions import closest

OF_THE_COMMAND = frozenset({"MATTING_API_URL", "MATTING_API_KEY"})
"""Variables of the command line and of the Python client: where another machine's API is."""

OF_KUBERNETES = re.compile(r"MATTING_\w+_SERVICE_(HOST|PORT)(_\w+)?|MATTING_\w+_PORT(_\d+_\w+)?")
"""Variables that Kubernetes sets in each container for a Service named matting-…. Those that end in
_PORT hold an address (`tcp://10.0.0.1:80`).
"""


def refuse_unknown(variables: Mapping[str, str | None], known: Iterable[str]) -> None:
    """Raise UnknownSettingError if a variable begins with `MATTING_` and is not known. The message
    holds names, never values.
    """
    settings = frozenset(known)
    unknown = sorted(
        name
        for given, value in variables.items()
        if (name := given.upper()).startswith("MATTING_")
        and name not in settings | OF_THE_COMMAND
        and not _is_of_kubernetes(name, value or "")
    )
    if unknown:
        raise UnknownSettingError(" ".join(_sentence(name, settings) for name in unknown))


def _is_of_kubernetes(name: str, value: str) -> bool:
    if not OF_KUBERNETES.fullmatch(name):
        return False
    return "_SERVICE_" in name or "_PORT_" in name or value.startswith(("tcp://", "udp://"))


def _sentence(name: str, settings: frozenset[str]) -> str:
    short = {one.removeprefix("MATTING_").lower() for one in settings}
    near = closest(name.removeprefix("MATTING_"), short)
    meant = f" Did you mean MATTING_{near.upper()}?" if near else ""
    return f"{name} is not a setting.{meant}"
