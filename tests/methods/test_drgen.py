"""DRGen: training of Fishr with averaged weights."""

import json

from helpers.toy import DOMAINS

from clipdr.methods import load
from clipdr.training import run


def test_drgen_is_fishr_with_averaged_weights(settings, cached, manifests, tmp_path):
    rules = settings(epochs=2, evaluations=6)
    run.train(
        rules,
        "dg",
        "drgen",
        DOMAINS[0],
        0,
        manifests=manifests,
        data=cached,
        folder=tmp_path,
        device="cpu",
    )
    training = json.loads((tmp_path / "settings.json").read_text())["training"]
    assert (training["average"], training["sampler"]) == ("swad", "domain")
    assert load("fishr").average == "none"
    assert load("drgen").loss is load("fishr").loss
