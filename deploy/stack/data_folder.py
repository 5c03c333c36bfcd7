"""The data folder of an embedded stack: one stack at a time, and no damaged database."""

import fcntl
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import IO

from deploy.stack.address import LOCK_FILE
from shared.errors import DataDamagedError, StackRunningError

LOOK_S = 0.5
"""A command that looks whether a stack runs (`find_stack`) holds the lock for a moment."""


def refuse_damaged(database: Path) -> None:
    """Raise DataDamagedError if the file is no database."""
    try:
        if database.is_file():
            with closing(sqlite3.connect(database)) as opened:
                opened.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        return  # locked, or cannot be opened: what opens it next says so
    except sqlite3.DatabaseError as error:
        raise DataDamagedError(f"{database} is damaged: {error}") from error


def lock_folder(data: Path) -> IO[str]:
    """Lock the data folder for one stack. Raises StackError when another stack holds it."""
    file = (data / LOCK_FILE).open("w")
    deadline = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                file.close()
                raise StackRunningError(f"A stack is running on {data} already") from error
            time.sleep(0.02)
        else:
            return file
