"""docs/add-a-method.md, followed word for word in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from helpers.paths import ROOT

GUIDE = (ROOT / "docs" / "add-a-method.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.S)


@pytest.fixture
def extended(tmp_path):
    """Copy of the package with the module of the guide and line, and config.yaml with its row."""
    shutil.copytree(
        ROOT / "clipdr", tmp_path / "clipdr", ignore=shutil.ignore_patterns("__pycache__")
    )
    module, line = blocks("python")
    name = re.search(r"`clipdr/methods/(\w+)\.py`", GUIDE)[1]
    (tmp_path / "clipdr" / "methods" / f"{name}.py").write_text(module)
    table = tmp_path / "clipdr" / "methods" / "__init__.py"
    text = table.read_text().replace("\n}\n", f"\n{line}}}\n")
    table.write_text(text)
    study, row = (
        yaml.safe_load((ROOT / "config.yaml").read_text()),
        yaml.safe_load(blocks("yaml")[0]),
    )
    study |= row | {"options": study["options"] | row["options"]}
    (tmp_path / "study.json").write_text(json.dumps(study))
    return tmp_path


def python(folder, code):
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_method_of_the_guide_trains_with_the_options_of_its_row(extended, toy, manifests, settings):
    reading = (
        "import json\n"
        "from clipdr.config.paths import StudyPaths\n"
        "from clipdr.config.study import Study\n"
        "study = Study(**json.load(open('study.json')))\n"
    )
    job = json.loads(python(extended, reading + "print(study.settings_json('smoothed'))"))
    assert job["options"] == {"share": 0.2}
    assert "results/runs/dg/smoothed/SIM_RLDR/0" in python(
        extended, reading + "print(StudyPaths(study).run_folders())"
    )
    key = (
        settings(epochs=1, evaluations=1, options=job["options"]),
        "dg",
        "smoothed",
        "SIM_RLDR",
        0,
    )
    inputs = {
        "manifests": list(map(str, manifests)),
        "data": str(toy),
        "folder": "run",
        "device": "cpu",
    }
    python(extended, f"from clipdr.training import run\nrun.train(*{key!r}, **{inputs!r})")
    predicted = pd.read_parquet(extended / "run" / "predictions.parquet")
    assert set(predicted.method) == {"smoothed"}
    assert len(predicted[predicted.split == "test"]) == 40 * predicted.selection.nunique()


def test_loss_of_the_guide_equals_cross_entropy_by_hand(extended):
    """The loss is (1 - share) times the true grade's term plus share times the mean over grades."""
    code = """
import torch
from clipdr.data.loader import Batch
from clipdr.methods.smoothed import Smoothed
logits, grade = torch.tensor([[1.0, 0, 2, -1, 0.5], [0, 3.0, 1, 1, 0]]), torch.tensor([2, 0])
for share in (0.0, 0.2):
    method = Smoothed.__new__(Smoothed)
    torch.nn.Module.__init__(method)
    method.share, method.forward = share, lambda image: logits
    logp = logits - torch.log(torch.exp(logits).sum(1, keepdim=True))
    true = -logp[torch.arange(2), grade].mean()
    by_hand = (1 - share) * true - share * logp.mean()
    batch = Batch(image=None, grade=grade, domain=None, disc=None)
    assert abs(method.loss(batch)["ce"] - by_hand) < 1e-6, (share, method.loss(batch), by_hand)
"""
    python(extended, code)
