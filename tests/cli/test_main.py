"""The command line: every verb explains itself, bad input is one line and exit status 2, nothing half-written."""

import subprocess
import sys

import pytest
from helpers.paths import ROOT

VERBS = [
    "datasets",
    "fetch",
    "synthesize",
    "prepare",
    "features",
    "prompts",
    "leaks",
    "gate",
    "train",
    "curve",
    "select",
    "search",
    "score",
    "collect",
    "table",
    "figure",
    "track",
    "data_report",
    "verify",
]


def clipdr(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "clipdr", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_help_lists_the_verbs_and_says_what_each_does():
    shown = clipdr("--help").stdout
    for verb in VERBS:
        assert f" {verb} " in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_without_heavy_imports(verb):
    from typer.testing import CliRunner

    from clipdr.cli.main import app

    shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert len(shown.output) > 300


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["prepare", "APTOS", "--raw", "nowhere"], "nowhere"),
        (["prepare", "NOWHERE", "--raw", "raw"], "NOWHERE"),
        (["synthesize", "x", "--domains", "APTOS"], "APTOS"),
        (["score", "results/runs/dg/erm/X/0", "--domains", "SIM_NONE"], "SIM_NONE"),
        (["table", "dg_auk", "results/runs/dg/erm/SIM_APTOS/0"], "dg_auk"),
        (["figure", "matrix", "results/runs/dg/erm/SIM_APTOS/0"], "similarity"),
    ],
)
def test_bad_input_is_one_line_and_a_status(arguments, says, tmp_path):
    paths = [str(tmp_path / argument) if "/" in argument else argument for argument in arguments]
    done = clipdr(*paths)
    assert done.returncode == 2
    assert done.stderr.startswith("clipdr: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
