"""Every protocol and selection rule from arrays to tables, by the commands that the rules call."""

import json

import pandas as pd
import pytest
import yaml
from helpers.paths import ROOT
from helpers.toy import DOMAINS
from typer.testing import CliRunner

from clipdr.cli.main import app
from clipdr.data.protocols import HELD_OUT

METHODS = (
    "erm",
    "drgen",
    "erm_class",
)  # drgen: Fishr, degenerate with one source, and averaged weights
TABLES = (
    "dg",
    "dg_auc",
    "esdg",
    "esdg_auc",
    "within_auc",
    "lodo_crossval_auc",
    "selection",
    "ablation",
    "esdg_targets",
)


def clipdr(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def finished(settings, cached, tmp_path_factory):
    """results/ of 3 methods x 4 protocols x 3 domains on cached features.

    One method is a variant with balanced batches.
    """
    results = tmp_path_factory.mktemp("protocols")
    listed = ["--domains", ",".join(DOMAINS), "--data", cached]
    runs = []
    for protocol, name in HELD_OUT.items():
        for method in METHODS:
            rules = settings(True, sampler="class" if method == "erm_class" else "none")
            rules |= {"variant_of": "erm"} if method == "erm_class" else {}
            for domain in DOMAINS:
                run = results / "runs" / protocol / method / name.format(domain) / "0"
                further = ["loso", "oracle"] if protocol in ("dg", "lodo_crossval") else ["oracle"]
                clipdr(
                    "train",
                    run,
                    "--settings",
                    json.dumps(rules),
                    *listed,
                    "--device",
                    "cpu",
                    "--keep",
                )
                inner, sources = [], [one for one in DOMAINS if one != domain]
                for left_out in sources if "loso" in further else []:
                    path = results / "inner" / protocol / method / domain / "0" / f"{left_out}.csv"
                    of_sources = [
                        "--domains",
                        ",".join(sources),
                        "--data",
                        cached,
                        "--device",
                        "cpu",
                    ]
                    clipdr("curve", path, "--settings", json.dumps(rules), *of_sources)
                    inner += ["--inner", path]
                clipdr(
                    "select", run, "--rules", ",".join(further), *inner, *listed, "--device", "cpu"
                )
                clipdr("score", run, *listed, "--bootstrap", 20, "--also", "selected.parquet")
                runs.append(run)
    for table in TABLES:
        clipdr("table", table, *runs, "--results", results)
    clipdr(
        "figure",
        "scores_by_domain",
        *(run for run in runs if run.parts[-4] == "esdg"),
        "--results",
        results,
    )
    return results


def table(results, name):
    return pd.read_csv(results / "tables" / f"{name}.csv", keep_default_na=False)


@pytest.mark.slow
def test_every_protocol_has_its_tables(finished):
    dg, esdg = table(finished, "dg_auc"), table(finished, "esdg_auc")
    assert set(dg["held_out"]) == {*DOMAINS, "average"}
    assert set(esdg["held_out"]) == {*(f"all_but_{domain}" for domain in DOMAINS), "average"}
    assert list(dict.fromkeys(dg["method"])) == list(METHODS)
    assert not {"X", "n/a"} & set(dg["value"])
    assert not {"X", "n/a"} & set(esdg["value"])
    sizes = {
        name: set(table(finished, f"{name}_auc").query("held_out != 'average'")["n"])
        for name in HELD_OUT
    }
    assert sizes == {"dg": {40}, "esdg": {80}, "lodo_crossval": {10}, "within": {10}}
    head = next(
        line
        for line in (finished / "tables" / "esdg_auc.md").read_text().splitlines()
        if line.startswith("| Method")
    )
    assert "all_but" not in head  # columns are sources, as in the published table
    assert (finished / "figures" / "scores_by_domain.png").stat().st_size > 5000
    assert "upper reference" in (finished / "tables" / "within_auc.md").read_text()
    assert "not GDRBench" in (finished / "tables" / "lodo_crossval_auc.tex").read_text()


def test_esdg_is_scored_on_the_pool_and_on_each_domain(finished):
    scores = pd.read_csv(
        finished / "runs" / "esdg" / "erm" / f"all_but_{DOMAINS[0]}" / "0" / "scores.csv"
    )
    test = scores[
        (scores.split == "test") & (scores.metric == "auc") & (scores.selection == "source_val")
    ]
    assert dict(zip(test.domain, test.n, strict=True)) == {
        "pooled": 80,
        DOMAINS[1]: 40,
        DOMAINS[2]: 40,
    }
    assert set(scores[scores.split == "val"].domain) == {"pooled", DOMAINS[0]}


def test_esdg_by_target_is_the_mean_over_the_other_sources(finished):
    cells = (
        table(finished, "esdg_targets")
        .query("method == 'erm'")
        .set_index("held_out")["value"]
        .astype(float)
    )
    assert list(cells.index) == list(DOMAINS)  # in the order of the study
    scores = pd.concat(
        pd.read_csv(path)
        for path in sorted((finished / "runs" / "esdg" / "erm").glob("*/*/scores.csv"))
    )
    test = scores[
        (scores.split == "test") & (scores.metric == "auc") & (scores.selection == "source_val")
    ]
    for domain in DOMAINS:
        values = test[test.domain == domain].value
        assert len(values) == 2
        assert cells[domain] == pytest.approx(100 * values.mean(), abs=1e-3)


def test_degenerate_cells_and_balanced_batches_are_noted(finished):
    esdg = (finished / "tables" / "esdg_auc.md").read_text()
    assert "† drgen is degenerate here" in esdg
    assert "† drgen" not in (finished / "tables" / "dg_auc.md").read_text()
    assert "Degenerate here: drgen" in (finished / "figures" / "scores_by_domain.svg").read_text()
    cells = table(finished, "esdg_auc").query("method == 'drgen'")
    assert (cells["degenerate"] != "").all()
    assert (cells["mark"] == "").all()
    for name in ("dg", "esdg_auc"):
        note = next(
            line
            for line in (finished / "tables" / f"{name}.md").read_text().splitlines()
            if "Balanced batches" in line
        )
        assert "drgen (by domain)" in note
        assert "(by class)" in note
        assert "erm " not in note.replace("erm\\_class", "")


def test_selection_table_has_every_rule_and_the_gap(finished):
    head = next(
        line
        for line in (finished / "tables" / "selection.md").read_text().splitlines()
        if line.startswith("| Method")
    )
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        *(
            "Method",
            "source val",
            "leave one source out",
            "last",
            "oracle (upper bound)",
            "oracle - source val",
        )
    ]
    scores = pd.concat(
        pd.read_csv(path) for path in sorted((finished / "runs" / "dg").glob("*/*/*/scores.csv"))
    )
    auc = (
        scores[(scores.split == "test") & (scores.metric == "auc")]
        .groupby(["method", "selection"])["value"]
        .mean()
    )
    cells = table(finished, "selection").assign(
        row=lambda frame: frame.groupby("method").cumcount()
    )
    for method in METHODS:
        values = cells[cells["method"] == method].set_index("row")["value"].astype(float)
        headline = "swad" if method == "drgen" else "source_val"
        expected = [auc[method, rule] for rule in (headline, "loso", "last", "oracle")]
        assert values[:4].tolist() == pytest.approx([100 * value for value in expected], abs=1e-3)
        assert values[4] == pytest.approx(100 * (expected[3] - expected[0]), abs=2e-3)
    assert "UPPER BOUND" in (finished / "tables" / "selection.md").read_text()


def test_variant_names_its_method_in_its_settings(finished):
    settings = json.loads(
        (finished / "runs" / "dg" / "erm_class" / DOMAINS[0] / "0" / "settings.json").read_text()
    )
    assert (settings["method"], settings["variant_of"], settings["training"]["sampler"]) == (
        "erm_class",
        "erm",
        "class",
    )
    assert "| erm\\_class |" in (finished / "tables" / "ablation.md").read_text()


ABLATION = yaml.safe_load((ROOT / "workflow" / "studies" / "ablation.yaml").read_text())
ROWS = [
    row for row in ABLATION["methods"] if row in ABLATION["variants"]
]  # the others are methods of their own


def row_of(name, settings):
    """Settings of a row of the ablation study on the toy study's backbone."""
    options = dict(ABLATION["variants"][name])
    method = options.pop("method")
    options.pop("backbone", None)
    return method, settings(
        options.pop("frozen", False), **options.pop("training", {}), options=options
    )


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_ablation_is_another_loss_or_another_training(
    name, settings, cached, manifests
):
    """Each row takes a step; its options or its rules differ from the full method's."""
    import torch

    from clipdr.config.job import Training
    from clipdr.data.manifest import read_manifests
    from clipdr.data.splits import fold
    from clipdr.training import loop
    from clipdr.training import run as runs

    (method, rules), manifest = row_of(name, settings), read_manifests(manifests)
    assert method == ("clip_dr_plus" if name.startswith("plus_") else "clip_dr")
    assert rules != settings() or "backbone" in ABLATION["variants"][name]
    torch.manual_seed(0)
    model, rows = runs.build(
        rules, method, cached, manifest, fold(manifest, "dg", DOMAINS[0]), torch.device("cpu")
    )
    training = Training(**rules["training"])
    model.begin(loop.source_of(rows["train"], rows["val"], training))
    optimizers = {
        key: loop.OPTIMIZERS["radam"](group, 1e-3, 0)
        for key, group in model.parameter_groups().items()
    }
    parts = loop.train_step(model, optimizers, rows["train"].batch(0, 10, 0, training.sampler), 0)
    assert all(torch.isfinite(value) for value in parts.values())
    assert (parts["rank"] == 0) == (name in ("no_rank", "plain"))
    assert (parts["kl"] == 0) == (name == "no_kl")
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(key.startswith("prompts.") for key in trained) == ("fixed" not in name)
    assert any(key.startswith("image.") for key in trained) == (name != "image_frozen")
