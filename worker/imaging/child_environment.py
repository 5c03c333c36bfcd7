"""The environment of child processes that read other people's files: what programs need to start,
and no secrets.
"""

import os

_NAMES = frozenset(
    {
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "OMP_NUM_THREADS",
        "PATH",
        "TMPDIR",
        "TZ",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
    }
)
_BEGINNINGS = ("LC_", "PYTHON")


def child_environment() -> dict[str, str]:
    """The variables of this process that such a child gets. All others stay here, whatever they
    are called: database URLs, keys of storage, tokens.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in _NAMES or name.startswith(_BEGINNINGS)
    }
