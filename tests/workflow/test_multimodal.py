"""The multimodal rules: each names the modules that its verb runs; sisters stay apart; the study is planned without a model."""

import subprocess
import sys

import pytest
from helpers.paths import ROOT

from clipdr.multimodal.settings import settings

RULES = ("prepare", "train", "retrieve", "classify", "controls", "noise", "ceilings", "report")


def test_the_study_is_planned_and_its_settings_are_known():
    import yaml

    study = yaml.safe_load((ROOT / "workflow/studies/multimodal.yaml").read_text())["multimodal"]
    for name, changed in study["models"].items():
        made = settings(study["settings"] | changed, study["preset"])
        assert made.leaky == (name == "fused")
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


@pytest.mark.parametrize("verb", [*RULES, "transfer"])
def test_every_verb_explains_itself(verb):
    from typer.testing import CliRunner

    from clipdr.cli.main import app

    done = CliRunner().invoke(app, ["multimodal", verb, "--help"])
    assert done.exit_code == 0 and len(done.output.split()) > 30
