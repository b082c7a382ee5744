"""Commands of `clipdr pretrain`: files written, tables of the report, publication to MLflow."""

import itertools
import shutil

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from clipdr.cli.main import app
from clipdr.models.exported import ExportedFolder
from clipdr.pretrain import report_tables
from clipdr.report import tracking


def test_commands_write_their_files(trained, tmp_path):
    data, run = trained[:2]
    mine = tmp_path / "pretrain" / "runs" / "toy" / "0"
    shutil.copytree(run, mine)
    common = ["--pairs", str(data / "patients" / "toy.csv"), "--data", str(data)]
    for command in (
        ["retrieve", str(mine), *common],
        ["probe", str(mine), "--labels", "N,D", *common],
        ["zeroshot", str(mine), "--labels", "N,D", "--shots", "1", *common],
        [
            "finetune",
            str(mine),
            "--labels",
            "N,D",
            "--epochs",
            "1",
            "--protocol",
            "linear",
            *common,
        ],
        ["export", str(mine), str(tmp_path / "backbone"), "--half"],
        ["report", str(tmp_path), "--data", str(data)],
    ):
        done = CliRunner().invoke(app, ["pretrain", *command])
        assert done.exit_code == 0, (command, done.output, done.exception)
    for name in (
        "retrieval",
        "probes",
        "zeroshot",
        "fewshot",
        "finetune_linear",
        "finetune_linear_history",
    ):
        assert len(pd.read_csv(mine / f"{name}.csv"))
    assert {"oracle_upstream", "macro_auroc"} <= set(
        pd.read_csv(mine / "finetune_linear.csv")["metric"]
    )
    assert (
        ExportedFolder(tmp_path / "backbone")
        .tensors("visual.safetensors")["projection.weight"]
        .dtype
        == torch.float16
    )
    folder = tmp_path / "pretrain"
    assert len(pd.read_csv(folder / "retrieval.csv")) == 6
    for name in ("retrieval_toy", "probes_toy", "zeroshot_toy"):
        assert (folder / "tables" / f"{name}.html").is_file()
        assert (
            (folder / "tables" / f"{name}.md").read_text().startswith("**SYNTHETIC images: toy: ")
        )
    text = (folder / "tables" / "retrieval_toy.md").read_text()
    assert text.startswith("**SYNTHETIC images: toy: retrieval")
    assert "patient, report to image" in text
    assert "not run" in (folder / "tables" / "probes_toy.md").read_text().lower()
    printed = pd.read_csv(folder / "tables" / "probes_toy.csv").set_index(["method", "metric"])[
        "value"
    ]
    scores = (
        pd.read_csv(mine / "probes.csv")
        .fillna({"against": ""})
        .set_index(["network", "against", "metric"])["value"]
    )
    rows = [(network, "", label) for network, label in report_tables.NETWORKS.items()]
    rows += [
        ("trained", other, f"difference to {report_tables.NETWORKS[other]}")
        for other in ("start", "random")
    ]
    for (network, against, label), metric in itertools.product(rows, report_tables.PROBED):
        assert float(printed[label, metric]) == pytest.approx(
            100 * scores[network, against, metric], abs=1e-4
        ), (label, metric)
    assert all(
        "SYNTHETIC" in (folder / "figures" / f"{name}.svg").read_text()
        for name in ("pretraining", "pairs_toy")
    )


def test_pretraining_run_is_published_to_mlflow_once(trained, tmp_path):
    """MLflow gets the settings and the losses of a finished run, once."""
    shutil.copytree(trained[1], tmp_path / "pretrain" / "runs" / "toy" / "0")
    address = f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking.publish(tmp_path / "runs", address, "clipdr")["published"] == 1
    assert tracking.publish(tmp_path / "runs", address, "clipdr")["unchanged"] == 1
