"""Runs the command `matting` in processes that need not import it: the tests run it a hundred
times, and its imports take 1.4 s of a core, most of what such a command needs.

A server process imports the command once. For each call it forks: a process of its own, with the
caller's arguments, environment, folder, input and outputs. `program` returns the path of a small
program that asks for this; a shell starts it like `matting`. What the tests stop or kill is started
as `matting` itself.
"""

import array
import atexit
import gc
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from deploy.stack.processes import Process, start, wait_until

IMPORTED = ("deploy.cli", "deploy.commands.cutout", "shared.job_store", "shared.storage")
"""What the commands import, as soon as they are called or later."""

CALLER = """#!{python} -IS
import array, json, os, socket, sys
call = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    open_files = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
    server.sendmsg([b" "], [open_files])
    server.sendall(json.dumps(call).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(8) or b"97"))  # 97: the server has died
"""


@cache
def program() -> str:
    """The path of a program that does what `matting` does. The first call starts the server, which
    ends with this process.
    """
    folder = Path(tempfile.mkdtemp(prefix="command-"))
    address, caller = str(folder / "socket"), folder / "matting"
    caller.write_text(CALLER.format(python=sys.executable, address=address))
    caller.chmod(0o755)
    # Not by -m, which would make this module the program's name in messages.
    code = f"from {__name__} import serve; serve({address!r})"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    server = start("command", command, log=folder / "log", folder=root, env=dict(os.environ))
    atexit.register(_close, server, folder)
    wait_until(Path(address).exists, server, timeout_s=180)
    return str(caller)


def _close(server: Process, folder: Path) -> None:
    server.stop(10)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def serve(address: str) -> NoReturn:
    """Fork a process for each call, until this process is ended."""
    for module in IMPORTED:
        import_module(module)
    gc.freeze()  # the children share these objects' memory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.new")
        server.listen(64)
        os.rename(f"{address}.new", address)  # whoever sees it can connect
        while True:
            call, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _answer(call)
            call.close()


def _answer(call: socket.socket) -> NoReturn:
    """Fork the command, and tell the caller its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, ancillary, _, _ = call.recvmsg(1, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    files = array.array("i", ancillary[0][2]).tolist()
    told = b"".join(iter(lambda: call.recv(65_536), b""))
    child = os.fork()
    if child == 0:
        call.close()
        _run(files, json.loads(told))
    for file in files:
        os.close(file)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    call.sendall(str(ended if ended >= 0 else 128 - ended).encode())  # as a shell says it
    os._exit(0)


def _run(files: list[int], call: dict[str, Any]) -> NoReturn:
    """Become the command of this call."""
    from deploy.cli import main

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    time.tzset()
    sys.argv = ["matting", *call["arguments"]]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # it was opened for the server's
    status = 0
    try:
        main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter does at its end
    atexit._run_exitfuncs()
    for output in (sys.stdout, sys.stderr):
        output.flush()
    os._exit(status)
