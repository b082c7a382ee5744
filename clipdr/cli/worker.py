"""Fork server: imports torch once, then forks one child per command (saves about 7 s per job).

The workflow starts it where jobs run on the same machine and in the same environment. It ends with
the workflow. A client (`clipdr.cli.worker_client`) sends its command line, folder, environment and
standard streams. The child runs the command and returns the exit status. If the client is killed,
its child ends too.
"""

import json
import os
import shutil
import signal
import socket
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

IMPORTS = (
    "timm",
    "open_clip",
    "clipdr.training.run",
    "clipdr.evaluation.scoring",
    "clipdr.evaluation.aggregate",
    "clipdr.training.model_selection",
    "clipdr.training.feature_cache",
)
INTERVAL = 1.0  # seconds between two checks whether the workflow still runs


def serve(address: str, parent: int) -> None:
    """Fork a child for every command line until the parent process ends.

    Args:
        address: Path of the socket to listen at.
        parent: Process identifier of the workflow.
    """
    from clipdr.cli.app import limit_threads

    # Before the other imports: libraries of linear algebra count their threads when they are
    # loaded.
    limit_threads(1)
    for name in IMPORTS:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that ended leave no zombie
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(INTERVAL)
        while os.getppid() == parent:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                try:
                    listener.close()
                    work(connection)
                finally:
                    os._exit(1)  # a child never continues as a server
            connection.close()


def work(connection: socket.socket) -> NoReturn:
    """Run the command line of a connection, send its exit status, and end this process."""
    from clipdr.cli.app import guarded
    from clipdr.cli.main import app

    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile("rb").readline())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["command"]
    threading.Thread(target=follow, args=[connection], daemon=True).start()
    status = 1
    try:
        guarded(app)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):  # sys.exit("message")
            print(status, file=sys.stderr)
            status = 1
    except BaseException:  # the interpreter's own handler is not reached in a forked child
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(f"{status}\n".encode())
    os._exit(status)


def follow(connection: socket.socket) -> NoReturn:
    """End this process when the client is gone."""
    connection.recv(1)
    os._exit(1)


if __name__ == "__main__":
    try:
        serve(sys.argv[1], int(sys.argv[2]))
    finally:
        shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
