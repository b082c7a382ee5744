"""The command line: help in panels, old names, bad input in one line with exit status 2."""

import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from typer.testing import CliRunner

import clipdr as package
from clipdr.cli.main import app

PANELS = {
    "Data": ["datasets", "fetch", "synthesize", "prepare", "features", "prompts", "leaks", "gate"],
    "Training": ["train", "curve", "select", "search"],
    "Evaluation": ["score", "collect", "compare", "verify"],
    "Report": ["table", "figure", "track", "data-report", "report"],
    "Trained models": ["cam"],
    "Other systems": ["pretrain", "multimodal"],
}
COMMANDS = [
    [command] for panel, names in PANELS.items() for command in names if panel != "Other systems"
]
COMMANDS += [
    ["pretrain", name] for name in ("pairs", "train", "export", "retrieve", "probe", "report")
]
COMMANDS += [
    ["multimodal", name] for name in ("prepare", "train", "retrieve", "classify", "report")
]


def clipdr(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "clipdr", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def help_of(*arguments):
    done = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    return done.output


def test_help_shows_every_command_in_its_panel():
    text = help_of()
    panels = re.split(r"╭─ ([A-Z][a-z ]+) ─+╮", text)[1:]
    commands = {
        title: re.findall(r"^│ ([a-z-]+) ", body, re.M)
        for title, body in zip(panels[::2], panels[1::2], strict=True)
    }
    del commands["Options"]
    assert list(commands) == list(PANELS)
    assert {title: set(names) for title, names in commands.items()} == {
        title: set(names) for title, names in PANELS.items()
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_a_help(command):
    assert len(help_of(*command)) > 300


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["page"], ["report"]),
        (["data_report"], ["data-report"]),
        (["pretrain", "pretrain"], ["pretrain", "train"]),
        (["multimodal", "controls"], ["multimodal", "sanity-checks"]),
        (["multimodal", "ceilings"], ["multimodal", "upper-bounds"]),
    ],
)
def test_old_command_name_works_and_is_hidden(old, new):
    texts = [re.sub(r"Usage: .*", "", help_of(*command)) for command in (old, new)]
    assert texts[0] == texts[1]
    listed = re.findall(r"^│ ([\w-]+) ", help_of(*new[:-1]), re.M)
    assert new[-1] in listed
    assert old[-1] not in listed


def test_version_is_printed():
    done = clipdr("--version")
    assert done.stdout == f"clipdr {package.__version__}\n"
    assert done.returncode == 0


def test_shell_completion_is_offered():
    assert "--install-completion" in help_of()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["prepare", "APTOS", "--raw", "nowhere"], "nowhere"),
        (["prepare", "NOWHERE", "--raw", "raw"], "NOWHERE"),
        (["synthesize", "x", "--domains", "APTOS"], "APTOS"),
        (["score", "results/runs/dg/erm/X/0", "--domains", "SIM_NONE"], "SIM_NONE"),
        (["table", "dg_auk", "results/runs/dg/erm/SIM_APTOS/0"], "dg_auk"),
        (["figure", "matrix", "results/runs/dg/erm/SIM_APTOS/0"], "similarity"),
        (["train", "run", "--settings", "{}", "--domains", "SIM_APTOS"], "PROTOCOL"),
        (["train", "r/dg/erm/A/0", "--settings", "{x", "--domains", "A"], "--settings: not JSON"),
        (["features", "A", "--side", "64", "--backbone", "[]"], "--backbone: '[]' is not a JSON"),
        (["search", "r/erm.json", "--settings", "{", "--domains", "A"], "--settings: not JSON"),
        (["pretrain", "train", "r/0", "--pairs", "a/b", "--settings", "["], "--settings: not JSON"),
        (["multimodal", "train", "r/m/0", "--settings", "3"], "--settings: '3' is not a JSON"),
        (["pretrain", "report", "results/none"], "pretrain"),
    ],
)
def test_bad_input_gives_one_line_and_status_two(arguments, text, tmp_path):
    paths = [str(tmp_path / argument) if "/" in argument else argument for argument in arguments]
    done = clipdr(*paths)
    assert done.returncode == 2
    assert done.stderr.startswith("clipdr: ")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
