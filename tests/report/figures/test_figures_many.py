"""Figures of more methods than a panel holds, and of runs that are named after their source (esdg); the figures of each study."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.finished_study import NAMES, read_manifest, run
from helpers.paths import ROOT
from helpers.report_cases import averages, compared

from clipdr.config.paths import StudyPaths
from clipdr.config.study import Study
from clipdr.report.figures import catalog, differences, roc, style, training
from clipdr.report.figures.scores_by_domain import plot as scores_by_domain

MANY = [f"method_{number:02d}" for number in range(26)]
DRAWN = (
    "scores_by_domain",
    "similarity",
    "similarity_by_domain",
    "confusion",
    "reliability",
    "roc",
    "training",
)


def test_no_two_methods_look_alike():
    """Ten colours and ten markers: a method of another ten has another marker for the same colour."""
    assert len({style.colour_and_marker(number) for number in range(100)}) == 100
    means = dict.fromkeys(MANY, (0.7, 0.6))
    axis = scores_by_domain(averages(means), MANY, ["SIM_APTOS", "SIM_IDRID"]).axes[0]
    assert len(
        {(one.lines[0].get_color(), one.lines[0].get_marker()) for one in axis.containers}
    ) == len(MANY)


def test_differences_of_many_methods_are_those_of_the_average_and_fit_a_page():
    rows = compared()
    rows = pd.concat([rows[rows["method"] == "erm"].assign(method=method) for method in MANY])
    figure = differences.plot(rows, ["clip_dr", *MANY], ["SIM_APTOS", "SIM_IDRID"])
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == MANY
    assert "mean of 2 held-out domains" in " ".join(figure.get_suptitle().split())
    assert figure.get_figheight() < 10


def test_training_curves_of_many_methods_stand_below_each_other():
    steps = {
        "epoch": [1.0, 2.0],
        "loss": [2.0, 1.0],
        "val_loss": [1.5, 1.2],
        "val_auc": [0.7, 0.8],
        "selected": [False, True],
    }
    histories = pd.concat(
        [pd.DataFrame(steps).assign(method=method, held_out="A") for method in MANY[:8]]
    )
    figure = training.plot(histories, MANY[:8], ["A"])
    assert figure.get_figwidth() <= 1.5 * style.WIDE
    seen = [axis.get_title() for axis in figure.axes if axis.get_visible() and axis.get_title()]
    assert seen == MANY[:8]
    assert len([axis for axis in figure.axes if axis.get_visible()]) == 24
    for axis in (
        axis
        for axis in figure.axes
        if axis.get_visible() and axis.get_ylabel() == "source validation AUC (%)"
    ):
        np.testing.assert_allclose(axis.lines[0].get_ydata(), [70, 80])


def test_the_lowest_panel_of_each_column_has_an_axis():
    """Four domains in three columns: two columns end in the first row."""
    rows = pd.concat(
        [
            pd.DataFrame(
                {
                    "method": "erm",
                    "held_out": name,
                    "grade": [0, 2, 0, 4],
                    "q": [0.1, 0.9, 0.4, 0.3],
                }
            )
            for name in "ABCD"
        ]
    )
    reached = pd.DataFrame(
        {"method": "erm", "held_out": list("ABCD"), "metric": "sensitivity", "mean": 0.5}
    )
    panels = roc.plot((rows, reached), ["erm"], list("ABCD")).axes[:4]
    assert [bool(axis.get_xlabel()) for axis in panels] == [False, True, True, True]
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in panels[1:]] == [True] * 3


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


@pytest.mark.parametrize("name", DRAWN)
def test_figures_of_esdg_name_the_sources(sources, toy, name):
    figure = catalog.module(name)
    held = [f"all_but_{source}" for source in NAMES]
    methods = (
        ["clip_dr"]
        if name in ("similarity", "similarity_by_domain", "reliability")
        else ["erm", "clip_dr"]
    )
    drawn = figure.plot(figure.read(catalog.FigureInputs(sources, toy, toy, toy)), methods, held)
    from matplotlib.text import Text

    said = " ".join(" ".join(text.get_text() for text in drawn.findobj(Text)).split())
    assert "SYNTHETIC images" in said and "all_but_" not in said and "held-out" not in said
    assert name == "roc" or "source domain" in said


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
def test_the_figures_of_a_study_are_of_methods_that_it_runs(names, tables, figures_of):
    """Every method that a figure names is one of the study, and those that figures of maps name train on photographs."""
    config = study(*names)
    assert tables <= set(config.tables) and figures_of <= set(config.figure_names) <= set(
        catalog.FIGURES
    )
    for figure, methods in config.figures.items():
        assert set(methods) <= set(config.methods), figure
        assert (
            figure not in ("training", "roc", "confusion") or 1 <= len(methods) <= training.COLUMNS
        )
    assert not any(json.loads(config.settings_json(method))["frozen"] for method in config.figures["cam"])


@pytest.mark.parametrize("names", [("full", "esdg"), ("ablation",)])
def test_the_whole_study_is_planned(names):
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
    assert (
        count["table"] == len(config.tables)
        and count["figure"] + count["cam"] == len(config.figure_names)
        and count["page"] == 1
    )
    assert count["train"] == len(StudyPaths(config).run_folders())
