"""The multimodal study is planned without a model, and every command of it has a help text."""

import subprocess
import sys

import pytest
from helpers.paths import ROOT

from clipdr.multimodal.settings import settings

RULES = ("prepare", "train", "retrieve", "classify", "controls", "noise", "ceilings", "report")


def test_study_is_planned_and_its_settings_are_valid():
    import yaml

    study = yaml.safe_load((ROOT / "workflow/studies/multimodal.yaml").read_text())["multimodal"]
    for name, changed in study["models"].items():
        model = settings(study["settings"] | changed, study["preset"])
        assert model.leaky == (name == "fused")
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "multimodal",
        "-n",
        "--cores",
        "1",
        "--configfile",
        "workflow/studies/multimodal.yaml",
    ]
    values = ["--config", "multimodal={data: none/data, results: none/results}"]
    done = subprocess.run([*command, *values], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"mm_train           {len(study['models'])}" in done.stdout.replace("\t", " "), (
        done.stdout[-2000:]
    )


@pytest.mark.parametrize("command", [*RULES, "transfer"])
def test_every_command_has_a_help_text(command):
    from typer.testing import CliRunner

    from clipdr.cli.main import app

    done = CliRunner().invoke(app, ["multimodal", command, "--help"])
    assert done.exit_code == 0
    assert len(done.output.split()) > 30
