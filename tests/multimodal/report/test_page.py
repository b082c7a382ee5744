"""Report of the multimodal system: one offline file, and claims with all their controls."""

import json

import pandas as pd
import pytest

from clipdr import DataError
from clipdr.artifacts.files import as_json, write_text
from clipdr.multimodal.evaluation import baselines, leaky_protocol
from clipdr.multimodal.report import claims, page
from clipdr.report.page import sections


@pytest.mark.usefixtures("checks")
def test_claim_without_the_four_controls_is_refused(results):
    draws = claims.draws_of(results, "brset_icdr", "SYNTHETIC")
    inputs = json.loads((results / "models/multimodal/0/settings.json").read_text())["inputs"]
    sentence, rows = claims.claim(draws, "multimodal", inputs)
    controls = claims.control_runs("multimodal", inputs)
    assert set(controls) <= set(draws)
    named = {controls.get(name, name): values for name, values in draws.items()}
    helps = baselines.multimodal_gain(named)["helps"]
    assert ("do NOT show" in sentence) != helps
    assert len(rows) == 5
    for name in controls:
        rest = {key: value for key, value in draws.items() if key != name}
        with pytest.raises(DataError, match="needs all of"):
            claims.claim(rest, "multimodal", inputs)


def test_models_with_other_inputs_have_other_structured_controls():
    history = claims.control_runs("multimodal", "history")
    demo = claims.control_runs("retrieval", "demo")
    assert history["structured_gb_history"] == demo["structured_gb_demo"] == "structured_gb"
    assert history["missingness"] == demo["missingness"]
    assert "multimodal_shuffled_at_test" in history


@pytest.mark.usefixtures("checks")
def test_report_is_one_offline_file_with_labels_and_upper_bounds(results, packed):
    demonstration = {
        "fused": leaky_protocol.noise_demonstration(2, 8, 20),
        "two_towers": leaky_protocol.noise_demonstration(1, 8, 20, fused=False),
    }
    write_text(results / "noise.json", as_json(demonstration))
    folders = [results / "models" / name / "0" for name in ("multimodal", "image_only", "fused")]
    page.write(folders, "SYNTHETIC", packed, results)
    text = (results / "report.html").read_text()
    for expected in (
        "99.94",
        "LEAKY",
        "SYNTHETIC",
        "C_1 %",
        "null band",
        "missingness",
        "lookup",
        "K5",
        "data:image/jpeg",
        "not run",
    ):
        assert expected in text, expected
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text
    for name in ("retrieval", "leaky", "icdr", "sdrg"):
        table = pd.read_csv(results / "tables" / f"multimodal_{name}.csv")
        assert set(table["trained_on"]) == {"SYNTHETIC"}, name
    for name in ("recall", "curves"):
        assert "SYNTHETIC" in (results / "figures" / f"multimodal_{name}.svg").read_text()
    section = sections.read(results / "section.json")
    assert section.words[0].startswith("SYNTHETIC")
    assert any("99.94" in sentence for sentence in section.words)
    captions = [view.caption.split(":")[0] for view in section.tables]
    assert captions == ["SYNTHETIC images"] * len(section.tables)
    heads = {head for view in section.tables for head in view.head}
    assert {"R@1 %", "C_1 %", "chance R@1 %", "unimodal upper bound C_1 % of these texts"} <= heads
    assert section.figures[0].alt == "recall of each mode with its upper bound"
    page.write(folders, "SYNTHETIC", packed, results, False)
    assert "data:image/jpeg" not in (results / "report.html").read_text()
