"""publish: run folders -> MLflow. The toy runs hold the files that training and scoring write."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.artifacts.files import digest
from clipdr.report import tracked_values, tracking
from clipdr.report.tracking import publish

SCORES = "protocol,method,held_out,seed,selection,split,domain,stratum,metric,value,low,high,"
SCORES += "n,clusters,undefined,unit"
HISTORY = "step,epoch,lr,loss,val_auc,selected\n10,0.5,0.1,1.5,,False\n20,1.0,0.05,1.25,0.75,True\n"


def write_run(runs, method, held_out="SIM_APTOS", seed=0, history=HISTORY, auc=0.875, rows=50):
    folder = runs / "dg" / method / held_out / str(seed)
    folder.mkdir(parents=True)
    settings = {
        "protocol": "dg",
        "method": method,
        "held_out": held_out,
        "seed": seed,
        "training": {"lr": 0.001, "augment": "shared"},
        "list": [1, 2],
    }
    (folder / "settings.json").write_text(json.dumps(settings | {"options": {"text": "x" * 7000}}))
    (folder / "provenance.json").write_text(
        json.dumps({"commit": "abc123", "seconds": 12.5, "prefix": "/somewhere/on/this/machine"})
    )
    (folder / "history.csv").write_text(history)
    key = f"dg,{method},{held_out},{seed}"
    lines = [
        f"{key},source_val,test,{held_out},all,auc,{auc},0.8,0.9,50,25,0,patient",
        f"{key},source_val,test,{held_out},all,qwk,,,,50,25,0,patient",
        f"{key},last,test,{held_out},all,auc,0.5,0.4,0.6,50,25,0,patient",
        f"{key},source_val,val,pooled,all,auc,0.99,,,50,25,0,patient",
    ]
    (folder / "scores.csv").write_text("\n".join([SCORES, *lines, ""]))
    pd.DataFrame({"image": [f"i{i}" for i in range(rows)]}).to_parquet(
        folder / "predictions.parquet"
    )
    (folder / "model.safetensors").write_bytes(b"weights " + method.encode())
    return folder


def write_study(results):
    for path in (
        "tables/dg_auc.json",
        "tables/dg_auc.csv",
        "tables/dg_auc.md",
        "figures/similarity.png",
        "figures/similarity.pdf",
    ):
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        (results / path).write_bytes(path.encode())


def active(store):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    active_runs = client.search_runs(
        [client.get_experiment_by_name("clipdr").experiment_id], max_results=1000
    )
    return client, {run.info.run_name: run for run in active_runs}, len(active_runs)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Three complete runs, an incomplete one and a study, published once. Read-only."""
    results = tmp_path_factory.mktemp("published") / "results"
    write_run(results / "runs", "clip_dr")
    write_run(results / "runs", "zero_shot", history="step\n")
    write_run(results / "runs", "erm", held_out="APTOS", history="")
    (write_run(results / "runs", "coop") / "predictions.parquet").unlink()
    write_study(results)
    store = f"sqlite:///{results}/mlflow.db"
    counts = publish(results / "runs", store, "clipdr")
    return results, store, counts


@pytest.fixture
def study(published, tmp_path):
    """A copy of the published study that a test may change; its database is the copy, too."""
    shutil.copytree(published[0], tmp_path / "results")
    return tmp_path / "results", f"sqlite:///{tmp_path}/results/mlflow.db"


def test_published_runs_are_counted(published):
    assert published[2] == {"published": 4, "replaced": 0, "unchanged": 0, "incomplete": 1}
    _, runs, total = active(published[1])
    assert total == 4
    assert set(runs) == {
        "dg/clip_dr/SIM_APTOS/0",
        "dg/zero_shot/SIM_APTOS/0",
        "dg/erm/APTOS/0",
        "study",
    }


def test_run_has_tags_params_and_metrics(published):
    client, runs, _ = active(published[1])
    run = runs["dg/clip_dr/SIM_APTOS/0"]
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 12500
    tags = {
        "synthetic": "yes",
        "protocol": "dg",
        "method": "clip_dr",
        "held_out": "SIM_APTOS",
        "seed": "0",
        "commit": "abc123",
        "selected_step": "20",
        "weights": "runs/dg/clip_dr/SIM_APTOS/0/model.safetensors",
    }
    assert {key: run.data.tags[key] for key in tags} == tags
    assert runs["dg/erm/APTOS/0"].data.tags["synthetic"] == "no"
    assert run.data.params["training.lr"] == "0.001"
    assert run.data.params["list"] == "[1, 2]"
    assert len(run.data.params["options.text"]) == 6000
    assert run.data.metrics["test/auc"] == 0.875
    assert run.data.metrics["test/auc_low"] == 0.8
    assert run.data.metrics["test_last/auc"] == 0.5
    curve = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(10, 1.5), (20, 1.25)]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val_auc")] == [
        20
    ]  # undefined at step 10


def test_undefined_value_is_no_number(published):
    run = active(published[1])[1]["dg/clip_dr/SIM_APTOS/0"]
    assert not {name for name in run.data.metrics if "qwk" in name}
    assert run.data.tags["undefined"] == "test/qwk, test/qwk_low, test/qwk_high"


def test_several_test_domains_are_named(tmp_path):
    path = tmp_path / "scores.csv"
    rows = [
        f"esdg,erm,all_but_APTOS,0,source_val,test,{domain},all,auc,{value},,,9,9,0,image"
        for domain, value in (("pooled", 0.7), ("DDR", 0.6))
    ]
    path.write_text("\n".join([SCORES, *rows]))
    assert tracked_values.scores(path)[0] == [("test/auc", 0.7, 0), ("test/auc/DDR", 0.6, 0)]


def test_artifacts_lie_beside_the_database(published):
    results = published[0]
    for name, expected in {
        "dg/zero_shot/SIM_APTOS/0": {
            "settings.json",
            "scores.csv",
            "history.csv",
            "predictions.parquet",
            "model.safetensors",
        },
        "study": {
            "tables/dg_auc.json",
            "tables/dg_auc.csv",
            "tables/dg_auc.md",
            "figures/similarity.png",
        },
    }.items():
        uri = active(published[1])[1][name].info.artifact_uri
        folder = results / "mlartifacts" / uri.removeprefix("mlflow-artifacts:/")
        assert {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        } == expected


def test_nothing_of_this_machine_is_published(published):
    """Neither a run nor an artifact names a folder of this machine, so both can be moved."""
    with sqlite3.connect(published[0] / "mlflow.db") as database:
        dump = "\n".join(
            line for line in database.iterdump() if "'Default'" not in line
        )  # MLflow's own, empty experiment
    assert "abc123" in dump
    for path in (str(published[0]), str(ROOT), "/somewhere/on/this/machine"):
        assert path not in dump
    assert not list((published[0] / "mlartifacts").rglob("provenance.json"))


def test_publishing_twice_changes_nothing(study):
    results, store = study
    before = {name: run.info.run_id for name, run in active(store)[1].items()}
    assert publish(results / "runs", store, "clipdr") == {
        "published": 0,
        "replaced": 0,
        "unchanged": 4,
        "incomplete": 1,
    }
    assert {name: run.info.run_id for name, run in active(store)[1].items()} == before


def test_touched_file_is_not_a_change(study):
    results, store = study
    for path in (results / "runs").rglob("*"):
        os.utime(path, (1, 1))
    assert publish(results / "runs", store, "clipdr")["unchanged"] == 4


def test_changed_run_replaces_the_old_one(study):
    results, store = study
    old = active(store)[1]["dg/clip_dr/SIM_APTOS/0"]
    scores = results / "runs/dg/clip_dr/SIM_APTOS/0/scores.csv"
    scores.write_text(scores.read_text().replace("0.875", "0.625"))
    (results / "tables/dg_auc.md").write_text("another table")
    assert publish(results / "runs", store, "clipdr") == {
        "published": 0,
        "replaced": 2,
        "unchanged": 2,
        "incomplete": 1,
    }
    client, runs, total = active(store)
    assert total == 4
    assert runs["dg/clip_dr/SIM_APTOS/0"].data.metrics["test/auc"] == 0.625
    assert client.get_run(old.info.run_id).info.lifecycle_stage == "deleted"
    assert not (
        results / "mlartifacts" / old.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    ).exists()


def test_interrupted_publication_of_a_run_is_repeated(study):
    """A process killed while it fills a run leaves it without a digest."""
    results, store = study
    client, runs, _ = active(store)
    client.create_run(runs["study"].info.experiment_id, run_name="dg/clip_dr/SIM_APTOS/0")
    client.delete_tag(runs["dg/zero_shot/SIM_APTOS/0"].info.run_id, "digest")
    assert publish(results / "runs", store, "clipdr") == {
        "published": 0,
        "replaced": 1,
        "unchanged": 3,
        "incomplete": 1,
    }
    assert active(store)[2] == 4


def test_large_weights_are_named_only(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "WEIGHTS_COPIED", 4)
    folder = write_run(tmp_path / "runs", "clip_dr")
    files = [folder / name for name in (*tracking.SMALL, tracking.WEIGHTS, "provenance.json")]
    record = tracking._run(files, tmp_path / "runs")
    assert tracking.WEIGHTS not in {path.name for path in record.copies}
    assert record.tags["weights_sha256"] == digest(folder / tracking.WEIGHTS)


def test_other_store_and_broken_run_are_refused(tmp_path):
    with pytest.raises(DataError, match="sqlite:///PATH"):
        publish(tmp_path, "http://somewhere", "clipdr")
    folder = write_run(tmp_path / "runs", "clip_dr")
    (folder / "provenance.json").write_text("{}")
    files = [folder / name for name in (*tracking.SMALL, tracking.WEIGHTS, "provenance.json")]
    with pytest.raises(
        DataError, match=r"clip_dr/SIM_APTOS/0: cannot be published \(KeyError\('commit'\)\)"
    ):
        tracking._run(files, tmp_path / "runs")


def test_second_writer_waits_and_a_dead_one_does_not_block(tmp_path):
    """Another process holds the lock until it is killed; only then does this one get it."""
    lock = tmp_path / "mlflow.db.lock"
    holder = "import sys, time; from pathlib import Path\n"
    holder += "from clipdr.report.tracking import _only_writer\n"
    holder += "with _only_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as first:
        assert first.stdout.readline() == "held\n"
        with subprocess.Popen(
            [sys.executable, "-c", holder, str(lock)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as second:
            assert (
                second.stderr.readline()
                == f"waiting for process {first.pid}, which is publishing to the same database\n"
            )
            first.send_signal(signal.SIGKILL)
            assert second.stdout.readline() == "held\n"
            second.kill()


def test_importing_tracking_imports_no_mlflow():
    code = "import sys, clipdr.report.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_only_tracking_imports_mlflow():
    importers = [
        path.name
        for path in (ROOT / "clipdr").rglob("*.py")
        if re.search(r"import mlflow|from mlflow", path.read_text())
    ]
    assert importers == ["tracking.py"]


@pytest.mark.slow
def test_ui_serves_runs_and_artifacts_on_loopback(study):
    """The command of `make ui`, in the folder that holds results/, after a move."""
    results, _ = study
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    command = next(line for line in makefile.splitlines() if line.startswith("\tmlflow ui"))
    command = [sys.executable, "-m", *command.split()]
    command = [str(port) if word == "$(PORT)" else word for word in command]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(
        command,
        cwd=results.parent,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        run = active(f"sqlite:///{results}/mlflow.db")[1]["dg/clip_dr/SIM_APTOS/0"]
        address = f"http://127.0.0.1:{port}"
        body = json.dumps({"experiment_ids": [run.info.experiment_id]}).encode()
        request = urllib.request.Request(
            f"{address}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
        )
        for _ in range(120):
            try:
                answer = json.load(urllib.request.urlopen(request, timeout=30))
                break
            except OSError:
                time.sleep(0.5)
        assert len(answer["runs"]) == 4
        page = urllib.request.urlopen(
            f"{address}/get-artifact?path=settings.json&run_uuid={run.info.run_id}", timeout=30
        ).read()
        assert json.loads(page)["method"] == "clip_dr"
        assert b"<html" in urllib.request.urlopen(address, timeout=30).read()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
