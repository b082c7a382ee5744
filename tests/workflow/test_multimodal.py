"""Multimodal rules: the study is planned without a model, its commands have help, its skill holds.

The nightly tests read a finished study (workflow/studies/multimodal.yaml). CLIPDR_MULTIMODAL names
its results folder; without it they run the study.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT
from typer.testing import CliRunner

from clipdr.cli.main import app
from clipdr.multimodal.evaluation import baselines
from clipdr.multimodal.report import page
from clipdr.multimodal.settings import make_settings

STUDY = "workflow/studies/multimodal.yaml"
COMMANDS = (
    "prepare",
    "train",
    "retrieve",
    "classify",
    "sanity-checks",
    "noise",
    "upper-bounds",
    "report",
    "transfer",
)
HIDDEN = ("controls", "ceilings")  # earlier names


def test_study_is_planned_and_its_settings_are_known():
    study = yaml.safe_load((ROOT / STUDY).read_text())["multimodal"]
    for name, changes in study["models"].items():
        setting = make_settings(study["settings"] | changes, study["preset"])
        assert setting.leaky == (name == "fused")
    command = [sys.executable, "-m", "snakemake", "multimodal", "-n", "--cores", "1"]
    command += ["--configfile", STUDY]
    command += ["--config", "multimodal={data: none/data, results: none/results}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(line.split()[:2] for line in done.stdout.splitlines() if line.startswith("mm_"))
    assert counts["mm_train"] == str(len(study["models"])), done.stdout[-2000:]
    assert counts["mm_sanity_checks"] == str(len(study["controlled"]))


@pytest.mark.parametrize("command", [*COMMANDS, *HIDDEN])
def test_command_has_a_help_text(command):
    done = CliRunner().invoke(app, ["multimodal", command, "--help"])
    assert done.exit_code == 0
    assert len(done.output.split()) > 30


def test_earlier_command_names_are_hidden():
    done = CliRunner().invoke(app, ["multimodal", "--help"])
    listed = done.output.split()
    assert set(COMMANDS) <= set(listed)
    assert not set(HIDDEN) & set(listed)


@pytest.fixture(scope="session")
def study():
    """Results folder of the finished study."""
    if "CLIPDR_MULTIMODAL" in os.environ:
        return Path(os.environ["CLIPDR_MULTIMODAL"])
    command = [sys.executable, "-m", "snakemake", "multimodal", "--cores", "2"]
    subprocess.run([*command, "--configfile", STUDY], cwd=ROOT, check=True)
    return ROOT / "results" / "multimodal"


@pytest.mark.nightly
def test_retrieval_of_synthetic_eyes_is_above_chance_and_below_its_bound(study):
    rows = {name: {} for name in ("retrieval", "clip", "permuted")}
    for name, scores in rows.items():
        for row in page.read_rows([study / "models" / name / "0"], "retrieval.csv"):
            scores[row["mode"], row["direction"]] = row
    dual = rows["retrieval"]["dual", "text_to_image"]
    assert dual["n"] >= 200
    assert dual["recall_1"] >= 20 * dual["chance_1"]
    assert dual["recall_1"] < dual["ceiling_1"]
    assert dual["recall_1_low"] <= dual["recall_1"] <= dual["recall_1_high"]
    assert ("dual", "text_to_image") in rows["clip"]
    for row in rows["permuted"].values():
        for k in (1, 5, 10):
            low, high = row[f"null_{k}_low"] - 1e-12, row[f"null_{k}_high"] + 1e-12
            assert low <= row[f"recall_{k}"] <= high, row


@pytest.mark.nightly
def test_history_helps_and_shuffled_structured_data_does_not(study):
    draws = page.draws_of(study, "brset_icdr", "SYNTHETIC")
    assert baselines.paired_difference(draws, "multimodal", "image_only").low > 0
    for name in ("multimodal_shuffled_at_test", "shuffled_rows"):
        assert not baselines.paired_difference(draws, name, "image_only").low > 0
    sentence = page.claim(draws, "multimodal")[0]
    assert sentence.startswith("multimodal: several modalities help")
