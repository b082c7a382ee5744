"""Fork server: output, exit status and end of a command equal those of its own process."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from clipdr.cli import worker_client


@pytest.fixture(scope="module")
def address():
    """Address of a fork server of this process that is ready."""
    server_address = worker_client.start()
    within(120, Path(server_address).stat)
    return server_address


def within(seconds, action):
    """Result of an action once it raises no OSError, tried every fifth of a second."""
    for _ in range(5 * seconds):
        with suppress(OSError):
            return action()
        time.sleep(0.2)
    return action()


def command(arguments, address, folder, **options):
    environment = os.environ | {
        worker_client.ADDRESS: address,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "clipdr", *arguments],
        cwd=folder,
        env=environment,
        text=True,
        **options,
    )


def test_command_in_the_server_prints_and_ends_as_outside(address, tmp_path):
    """Help and wrong input: same output, same status, same stream."""
    for arguments in (
        ["train", "--help"],
        ["score", "nowhere", "--domains", "SIM_APTOS"],
        ["train", "--no-such-option"],
    ):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        shared, own = (
            command(arguments, where, tmp_path, **streams)
            for where in (address, str(tmp_path / "absent"))
        )
        assert shared.communicate(timeout=300) == own.communicate(timeout=300)
        assert shared.returncode == own.returncode == (0 if "--help" in arguments else 2)


def write_for_a_while(descriptor):
    for _ in range(300):
        os.write(descriptor, b"image\n")
        time.sleep(0.1)


def test_child_ends_with_its_client(address, tmp_path):
    """A command waits at a pipe. When its client is killed, the pipe loses its reader."""
    pipe = tmp_path / "data" / "manifests" / "SIM_APTOS.csv"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    asked = command(
        ["score", "runs/dg/majority/SIM_APTOS/0", "--domains", "SIM_APTOS"], address, tmp_path
    )
    writer = within(
        60, lambda: os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    )  # an error until the child has opened the other end
    asked.kill()
    asked.wait()
    with pytest.raises(BrokenPipeError):
        write_for_a_while(writer)
    os.close(writer)


def test_client_answers_only_for_its_commands_and_live_server(address, monkeypatch):
    monkeypatch.setenv(worker_client.ADDRESS, address)
    assert worker_client.ask(["train", "--help"]) == 0
    assert worker_client.ask(["train", "--no-such-option"]) == 2
    assert worker_client.ask(["synthesize", "--help"]) is None
    assert worker_client.ask([]) is None
    monkeypatch.setenv(worker_client.ADDRESS, address + "_gone")
    assert worker_client.ask(["train", "--help"]) is None


def test_server_ends_with_the_process_that_started_it(tmp_path):
    """Neither a process nor a folder is left when the workflow was killed."""
    code = (
        "import time; from clipdr.cli import worker_client; "
        "print(worker_client.start(), flush=True); time.sleep(600)"
    )
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    server_address = started.stdout.readline().strip()
    within(120, Path(server_address).stat)
    started.kill()
    started.wait()
    for _ in range(300):
        if not Path(server_address).parent.exists():
            break
        time.sleep(0.2)
    assert not Path(server_address).parent.exists()
