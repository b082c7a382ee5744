"""Figures of whole studies: runs under esdg, and the shipped configurations."""

import json
import subprocess
import sys

import pytest
import yaml
from helpers.finished_study import NAMES, read_manifest, run
from helpers.paths import ROOT
from matplotlib.text import Text

from clipdr.config.paths import StudyPaths
from clipdr.config.study import Study
from clipdr.report.figures import (
    catalog,
    training,
)

NAMES_PLOTTED = (
    "scores_by_domain",
    "similarity",
    "similarity_by_domain",
    "confusion",
    "reliability",
    "roc",
    "training",
)


@pytest.fixture(scope="module")
def sources(toy, tmp_path_factory):
    """Run folders of two methods under esdg, scored."""
    root = tmp_path_factory.mktemp("sources")
    (root / "data").symlink_to(toy)
    methods = [(method, name) for method in ("erm", "clip_dr") for name in NAMES]
    return [
        run(root / "results/runs/esdg" / method / f"all_but_{name}" / "0", read_manifest(toy))
        for method, name in methods
    ]


@pytest.mark.parametrize("name", NAMES_PLOTTED)
def test_figures_of_esdg_name_the_source_domains(sources, toy, name):
    figure = catalog.module(name)
    held = [f"all_but_{source}" for source in NAMES]
    methods = (
        ["clip_dr"]
        if name in ("similarity", "similarity_by_domain", "reliability")
        else ["erm", "clip_dr"]
    )
    plotted = figure.plot(figure.read(catalog.FigureInputs(sources, toy, toy, toy)), methods, held)
    words = " ".join(" ".join(text.get_text() for text in plotted.findobj(Text)).split())
    assert "SYNTHETIC images" in words
    assert "all_but_" not in words
    assert "held-out" not in words
    assert name == "roc" or "source domain" in words


def study(*names):
    """The Study of several files, merged as Snakemake merges them."""
    merged = yaml.safe_load((ROOT / "config.yaml").read_text())
    for name in names:
        for key, value in yaml.safe_load(
            (ROOT / f"workflow/studies/{name}.yaml").read_text()
        ).items():
            merged[key] = (
                merged[key] | value if isinstance(value, dict) and key in merged else value
            )
    return Study(**merged)


@pytest.mark.parametrize(
    ("names", "tables", "figures_of"),
    [
        (
            ("full", "esdg"),
            {"esdg", "esdg_auc", "esdg_targets"},
            {"scores_by_domain", "differences", "similarity", "roc", "training", "cam"},
        ),
        (
            ("ablation",),
            {"ablation", "dg_auc", "dg_qwk"},
            {"differences", "similarity", "confusion", "training", "cam"},
        ),
        (("full",), {"dg", "dg_compare_auc"}, set(catalog.FIGURES)),
        (("gdrbench",), {"reproduction_auc"}, set(catalog.FIGURES)),
    ],
)
def test_figures_of_a_study_show_methods_that_it_runs(names, tables, figures_of):
    """Every method of a figure is one of the study; those of maps train on images."""
    config = study(*names)
    assert tables <= set(config.tables)
    assert figures_of <= set(config.figure_names) <= set(catalog.FIGURES)
    for figure, methods in config.figures.items():
        assert set(methods) <= set(config.methods), figure
        assert (
            figure not in ("training", "roc", "confusion") or 1 <= len(methods) <= training.COLUMNS
        )
    assert not any(
        json.loads(config.settings_json(method))["frozen"] for method in config.figures["cam"]
    )


@pytest.mark.parametrize("names", [("full", "esdg"), ("ablation",)])
def test_whole_study_is_planned(names):
    """Dry run: every table and figure of the study is a job, and so is the page."""
    files = [f"workflow/studies/{name}.yaml" for name in names]
    where = ["results=results/none", "data=data/none", "raw=data/none/synthetic"]
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-n",
        "--nolock",
        "--cores",
        "1",
        "--configfile",
        *files,
        "--config",
        *where,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    count = {
        words[0]: int(words[1])
        for line in done.stdout.splitlines()
        if len(words := line.split()) == 2 and words[1].isdigit()
    }
    config = study(*names)
    assert count["table"] == len(config.tables)
    assert count["figure"] + count["cam"] == len(config.figure_names)
    assert count["report"] == 1
    assert count["train"] == len(StudyPaths(config).run_folders())
