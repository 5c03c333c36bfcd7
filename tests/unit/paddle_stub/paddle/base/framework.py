"""Programs, which the stand-in does not read."""

import os
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from paddle import asked, note


class Program:
    """Changes are accepted, and make the file that says so."""

    @staticmethod
    def parse_from_string(data: bytes) -> Any:
        note("programs", str(os.getpid()))
        program = MagicMock()
        feeds = [MagicMock(type="feed") for _ in range(asked().get("inputs", 1))]
        for one in (*feeds, fetch := MagicMock(type="fetch")):
            one.input.return_value = one.output.return_value = [one.type]
        block = program.global_block()
        block.ops = [*feeds, fetch]
        rank = asked().get("rank", 4)
        block.var = lambda name: SimpleNamespace(shape=(-1,) * (rank if name == "fetch" else 4))
        program.desc.serialize_to_string.return_value = b"pixels"
        return program
