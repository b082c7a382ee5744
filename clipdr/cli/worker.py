"""Jobs that share their imports: one process that has imported torch and the rest, and forks a child for each command line it is sent.

Importing torch, timm and open_clip takes 7 of the 35 CPU seconds of a run of the demo. The workflow starts this process where its jobs run
on this machine and in its own environment; it ends with the workflow. A command that finds no such process runs in its own, as outside of
the workflow, to the same result.

Input: an address in the environment variable CLIPDR_WARM. The command line, folder, environment and standard streams go to a child, its
exit status comes back. Where the command's own process is killed, so is the child.
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

IMPORTS = (
    "timm",
    "open_clip",
    "clipdr.training.run",
    "clipdr.evaluation.scoring",
    "clipdr.evaluation.aggregate",
    "clipdr.training.model_selection",
    "clipdr.training.feature_cache",
)
LOOK = 1.0  # seconds between two looks whether the workflow still runs


def serve(address, parent):
    """Fork a child for every command line, as long as the process `parent` is the one above this."""
    from clipdr.cli.app import limit_threads

    limit_threads(
        1
    )  # before the import: libraries of linear algebra count their threads when they are loaded
    for name in IMPORTS:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that ended leave nothing behind
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(LOOK)
        while os.getppid() == parent:
            try:
                line, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                try:
                    listener.close()
                    work(line)
                finally:
                    os._exit(1)  # a child never goes on as a server
            line.close()


def work(line):
    """Run the command line of a connection as if this process had been started for it, send its exit status, and end."""
    from clipdr.cli.app import guarded
    from clipdr.cli.main import app

    _, streams, _, _ = socket.recv_fds(line, 1, 3)
    request = json.loads(line.makefile("rb").readline())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["command"]
    threading.Thread(target=follow, args=[line], daemon=True).start()
    status = 1
    try:
        guarded(app)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):  # sys.exit("words")
            print(status, file=sys.stderr)
            status = 1
    except (
        BaseException
    ):  # what the interpreter does at the end of a process, which a fork does not reach
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    line.sendall(f"{status}\n".encode())
    os._exit(status)


def follow(line):
    """End this process when the one that asked is gone."""
    line.recv(1)
    os._exit(1)


if __name__ == "__main__":
    try:
        serve(sys.argv[1], int(sys.argv[2]))
    finally:
        shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
