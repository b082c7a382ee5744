"""TODO"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ADDRESS = "CLIPDR_WARM"
VERBS = ("features", "train", "curve", "select", "score")  # of many short jobs


def start():
    """Start the process, which ends with this one; its address, where nobody listens before the imports are done."""
    address = Path(tempfile.mkdtemp(prefix="clipdr-")) / "socket"  # a folder of this user only
    subprocess.Popen(
        [sys.executable, "-m", "clipdr.cli.worker", str(address), str(os.getpid())],
        stdin=subprocess.DEVNULL,
    )
    return str(address)


def ask(arguments):
    """Exit status of a command line that the warm process ran; None where there is none, or the verb is not for it."""
    address = os.environ.get(ADDRESS)
    if not address or not arguments or arguments[0] not in VERBS:
        return None
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(address)
        except OSError:  # still importing, or gone
            return None
        socket.send_fds(line, [b"\n"], [0, 1, 2])
        request = {
            "command": [sys.argv[0], *arguments],
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
        line.sendall(json.dumps(request).encode() + b"\n")
        answer = line.makefile("rb").readline()
    if not answer:
        print(f"clipdr: the process of {arguments[0]} was killed", file=sys.stderr)
    return int(answer or 1)
