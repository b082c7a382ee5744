"""The process that jobs fork from: what a command prints, its exit status and its end are those of a process of its own."""

import os
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from clipdr.cli import worker_client


@pytest.fixture(scope="module")
def address():
    """A warm process of this test process, ready."""
    found = worker_client.start()
    within(120, lambda: os.stat(found))
    return found


def within(seconds, action):
    """What an action returns once it raises no OSError, tried every fifth of a second."""
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


def test_a_command_prints_and_ends_as_in_a_process_of_its_own(address, tmp_path):
    """Help and a mistake: same output, same status; the mistake's line goes to stderr."""
    for arguments in (
        ["train", "--help"],
        ["score", "nowhere", "--domains", "SIM_APTOS"],
        ["train", "--no-such-option"],
    ):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        shared, own = (
            command(arguments, where, tmp_path, **streams)
            for where in (address, str(tmp_path / "nobody"))
        )
        assert shared.communicate(timeout=300) == own.communicate(timeout=300)
        assert shared.returncode == own.returncode == (0 if "--help" in arguments else 2)


def test_the_child_ends_with_the_process_that_asked(address, tmp_path):
    """A command that waits for a pipe nobody writes: killed, the pipe loses its reader."""
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
        for _ in range(300):
            os.write(writer, b"image\n")
            time.sleep(0.1)
    os.close(writer)


def test_only_a_verb_for_it_and_an_address_of_somebody_are_answered(address, monkeypatch):
    monkeypatch.setenv(worker_client.ADDRESS, address)
    assert worker_client.ask(["train", "--help"]) == 0
    assert worker_client.ask(["train", "--no-such-option"]) == 2
    assert worker_client.ask(["synthesize", "--help"]) is None and worker_client.ask([]) is None
    monkeypatch.setenv(worker_client.ADDRESS, address + "_gone")
    assert worker_client.ask(["train", "--help"]) is None


def test_it_ends_with_the_process_that_started_it(tmp_path):
    """Nothing is left, neither process nor folder, when the workflow was killed."""
    code = "import time; from clipdr.cli import worker_client; print(worker_client.start(), flush=True); time.sleep(600)"
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    found = started.stdout.readline().strip()
    within(120, lambda: os.stat(found))
    started.kill()
    started.wait()
    for _ in range(300):
        if not os.path.exists(os.path.dirname(found)):
            break
        time.sleep(0.2)
    assert not os.path.exists(os.path.dirname(found))
