"""A finished toy study with everything that the report shows, and its report."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr.cli import data as data_commands
from clipdr.cli import evaluation, report
from clipdr.data.splits import fold
from clipdr.evaluation.schema import LOGITS, PROBABILITIES
from clipdr.report.page import build as page

NAMES = ("SIM_APTOS", "SIM_IDRID", "SIM_RLDR")
METHODS = ("erm", "ordinal_clip", "clip_dr")
TABLES, FIGURES = ["dg", "dg_auc", "dg_recall"], ["scores_by_domain", "similarity"]
EVIL = "<script>window.broken=1</script><img src=x onerror=window.broken=1>\"'&=cmd()"
OTHER = "0123456789012345678901234567890123456789-dirty"
SHARPNESS = {"erm": 0.5, "ordinal_clip": 1.5, "clip_dr": 3.0}  # of the logits about the true grade


def predictions(manifest, protocol, method, held_out):
    """Predictions of one run: logits that fall with the distance from the true grade, plus noise.

    The rule `last` has other noise.
    """
    frames, parts = [], fold(manifest, protocol, held_out)
    for number, selection in enumerate(("source_val", "last")):
        for split in ("val", "test"):
            rows = parts[split]
            rng = np.random.default_rng(
                [
                    number,
                    METHODS.index(method),
                    NAMES.index(held_out.removeprefix("all_but_")),
                    len(rows),
                ]
            )
            far = np.abs(rows["grade"].to_numpy()[:, None] - np.arange(5))
            logits = -SHARPNESS[method] * far + rng.normal(0, 1.5, far.shape)
            share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            frame = rows[["image", "domain", "grade"]].assign(protocol=protocol, method=method)
            frame = frame.assign(held_out=held_out, seed=0, selection=selection)
            frame[LOGITS], frame[PROBABILITIES] = logits.astype("float32"), share
            frames.append(
                frame.assign(
                    split=split,
                    expected_grade=share @ np.arange(5.0),
                    scale=np.nan if method == "erm" else 10.0,
                )
            )
    return pd.concat(frames, ignore_index=True)


def run(folder, manifest, evil=False):
    """One finished run folder, .../results/runs/PROTOCOL/METHOD/HELD_OUT/SEED."""
    folder.mkdir(parents=True)
    predictions(manifest, *folder.parts[-4:-1]).to_parquet(
        folder / "predictions.parquet", index=False
    )
    training = {
        "epochs": 2.0,
        "batch_size": 16,
        "optimizer": "adamw",
        "lr": 5e-4,
        "schedule": "cosine",
        "augment": "flip",
    }
    settings = {
        "backbone": {
            "name": "tiny",
            "image": "timm/x",
            "weights": f"/home/{'x' * 90}.safetensors",
            "text": "small",
        },
        "frozen": False,
    }
    settings |= {
        "training": training | {"evaluations": 2, "precision": "fp32"},
        "image": {"size": 32, "input": 32},
    }
    settings["options"] = {"note": EVIL} if evil else {}
    (folder / "settings.json").write_text(json.dumps(settings))
    facts = {
        "commit": OTHER if evil else OTHER[:40],
        "python": "3.11.7",
        "device": "cpu",
        "threads": 1,
        "seconds": 90.0,
        "peak_mib": 512.0,
    }
    facts["versions"] = {"torch": EVIL if evil else "2.14.1"}
    (folder / "provenance.json").write_text(json.dumps(facts))
    (folder / "history.csv").write_text(
        "step,epoch,lr,loss,val_loss,val_auc,selected\n4,1,.1,1,1,.7,False\n8,2,.1,.5,.9,.8,True\n"
    )
    evaluation.score(folder, ",".join(NAMES), folder.parents[5] / "data", 50)
    return folder


def read_manifest(data):
    """Manifest rows of all domains."""
    return pd.concat(
        [pd.read_csv(data / "manifests" / f"{name}.csv", keep_default_na=False) for name in NAMES]
    )


def build(root, toy):
    """Make a scored study of three methods whose names, commits and reasons hold markup.

    Args:
        root: Folder of the study.
        toy: Folder of its data.

    Returns:
        The root and the run folders.
    """
    data, results = root / "data", root / "results"
    for folder in ("manifests", "store"):
        shutil.copytree(toy / folder, data / folder)
    (data / "rejected").mkdir()
    for name in NAMES:
        rows = [(f"{name}/x/{EVIL}.png", 2, "val", EVIL)] if name == "SIM_RLDR" else []
        pd.DataFrame(rows, columns=["image", "grade", "split", "reason"]).to_csv(
            data / "rejected" / f"{name}.csv", index=False
        )
        manifest = pd.read_csv(data / "manifests" / f"{name}.csv", keep_default_na=False)
        manifest["image"] = [
            image.replace(".png", f"{EVIL}.png".replace("/", "")) for image in manifest["image"]
        ]
        manifest.to_csv(data / "manifests" / f"{name}.csv", index=False)
    manifest = read_manifest(data)
    runs = [
        run(
            results / "runs" / "dg" / method / held_out / "0",
            manifest,
            method == "clip_dr" and held_out == NAMES[0],
        )
        for method in METHODS
        for held_out in NAMES
    ]
    evaluation.collect(runs, results)
    evaluation.compare(runs, "clip_dr", results)
    data_commands.leaks(",".join(NAMES), data, results)
    for name in NAMES:
        data_commands.gate("dg", name, ",".join(NAMES), data, results, True)
    report.data_report(",".join(NAMES), data, results)
    for name in TABLES:
        report.table(name, runs, results)
    for name in FIGURES:
        report.figure(name, runs, results, data)
    (root / "deviations.md").write_text(
        f"# Title\n\n## Part\n\n| # | what |\n|---|---|\n| 1 | {EVIL} |\n"
    )
    return root, runs


def write(study, name="report.html", **changes):
    """Write the report of the study; its path."""
    root, runs = study
    options = {
        "tables": TABLES,
        "figures": FIGURES,
        "domains": NAMES,
        "data": root / "data",
        "deviations": root / "deviations.md",
    }
    path = root / "results" / name
    page.write(path, runs, **(options | {"reference": "clip_dr", "gallery": 2} | changes))
    return path


class Outline(HTMLParser):
    """Tags, headings, attributes and visible text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.headings, self.attributes, self.text, self.hidden = [], [], [], [], 0
        self.feed(Path(path).read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.hidden = tag in ("script", "style")
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        self.hidden = 0

    def handle_data(self, data):
        if not self.hidden:
            self.text.append(data)
