"""Client of the fork server: starts it, and sends it the command lines of short jobs.

`clipdr.cli.worker` is the server. A command that finds no server runs in its own process, to the
same result.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ADDRESS = "CLIPDR_WARM"  # environment variable with the path of the server's socket
COMMANDS = ("features", "train", "curve", "select", "score")  # short jobs that a study has many of


def start() -> str:
    """Start a fork server that ends with this process.

    Returns:
        Path of its socket. It answers once the server has imported its libraries.
    """
    address = Path(tempfile.mkdtemp(prefix="clipdr-")) / "socket"  # only this user can enter it
    subprocess.Popen(
        [sys.executable, "-m", "clipdr.cli.worker", str(address), str(os.getpid())],
        stdin=subprocess.DEVNULL,
    )
    return str(address)


def ask(arguments: Sequence[str]) -> int | None:
    """Run a command line in the fork server named by the environment.

    Args:
        arguments: Command line without the program's name.

    Returns:
        Exit status of the command. None if there is no server, or the command is not one of
        COMMANDS.
    """
    address = os.environ.get(ADDRESS)
    if not address or not arguments or arguments[0] not in COMMANDS:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
        except OSError:  # the server still imports, or has ended
            return None
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        request = {
            "command": [sys.argv[0], *arguments],
            "folder": str(Path.cwd()),
            "environment": dict(os.environ),
        }
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = connection.makefile("rb").readline()
    if not answer:
        print(f"clipdr: the process of {arguments[0]!r} was killed.", file=sys.stderr)
    return int(answer or 1)
