"""From scores.csv to averages and summary.json, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from helpers.simulated_runs import SIZES, predict

from clipdr import DataError
from clipdr.evaluation.aggregate import average, collect, collect_draws, summary
from clipdr.evaluation.operating_point import MEASURES
from clipdr.evaluation.predictions import read
from clipdr.evaluation.schema import AVERAGES
from clipdr.evaluation.scoring import score, write


def test_files_round_trip_and_are_equal_byte_for_byte(manifest, tmp_path):
    path = tmp_path / "predictions.parquet"
    predict(manifest, ["SIM_APTOS"]).to_parquet(path, index=False)
    written = []
    for name in ("a", "b"):
        folder = tmp_path / "dg" / "clip_dr" / "SIM_APTOS" / name
        folder.mkdir(parents=True)
        write(score(read(path), manifest, 12), folder)
        written.append(
            [(folder / file).read_bytes() for file in ("scores.csv", "draws.npz", "operating.json")]
        )
        assert sorted(file.name for file in folder.iterdir()) == [
            "draws.npz",
            "operating.json",
            "scores.csv",
        ]
    assert written[0] == written[1]
    pd.testing.assert_frame_equal(
        collect([folder]),
        score(predict(manifest, ["SIM_APTOS"]), manifest, 12).scores,
        check_exact=True,
    )


def test_missing_and_incomplete_files_are_named(manifest, tmp_path):
    with pytest.raises(DataError, match=r"scores\.csv: missing"):
        collect([tmp_path])
    with pytest.raises(DataError, match=r"draws\.npz: missing"):
        collect_draws([tmp_path])
    with pytest.raises(DataError, match="no run folders"):
        collect([])
    path = tmp_path / "predictions.parquet"
    with pytest.raises(DataError, match=r"predictions\.parquet: missing"):
        read(path)
    predict(manifest, ["SIM_APTOS"]).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a whole parquet file"):
        read(path)
    (tmp_path / "scores.csv").write_text("protocol,method\ndg,erm\n")
    with pytest.raises(DataError, match="columns are not those"):
        collect([tmp_path])


def test_average_over_seeds_and_domains(study):
    scores, draws = collect(study), collect_draws(study)
    cells = average(scores, draws).set_index(["method", "held_out", "metric"])
    assert list(average(scores, draws).columns) == AVERAGES
    one = scores[(scores["selection"] == "source_val") & (scores["split"] == "test")].set_index(
        ["method", "held_out", "seed", "metric"]
    )
    auc = {(h, s): one.loc[("clip_dr", h, s, "auc"), "value"] for h in SIZES for s in (0, 1)}
    cell = cells.loc[("clip_dr", "SIM_RLDR", "auc")]
    assert cell["mean"] == pytest.approx((auc["SIM_RLDR", 0] + auc["SIM_RLDR", 1]) / 2, abs=1e-15)
    assert cell["se"] == pytest.approx(abs(auc["SIM_RLDR", 0] - auc["SIM_RLDR", 1]) / 2, abs=1e-15)
    assert (
        cell["n_seeds"],
        cell["n_domains"],
        cell["n"],
        cell["clusters"],
        cell["unit"],
        cell["resamples"],
    ) == (
        2,
        1,
        100,
        50,
        "patient",
        60,
    )
    by_seed = [np.mean([auc[h, s] for h in SIZES]) for s in (0, 1)]
    cell = cells.loc[("clip_dr", "average", "auc")]
    assert cell["mean"] == pytest.approx(np.mean(by_seed), abs=1e-15)
    assert cell["se"] == pytest.approx(abs(by_seed[0] - by_seed[1]) / 2, abs=1e-15)
    resampled = np.mean(
        [draws["dg", "clip_dr", h, s][f"source_val/{h}"][0] for h in SIZES for s in (0, 1)], axis=0
    )
    assert (cell["low"], cell["high"]) == pytest.approx(
        np.percentile(resampled, [2.5, 97.5]), abs=1e-12
    )
    assert (cell["unit"], cell["n"], cell["clusters"], cell["n_domains"]) == ("mixed", 300, 190, 3)


def test_average_uses_the_seeds_that_have_all_domains(study):
    cells = average(collect(study)).set_index(["method", "held_out", "metric"])
    assert cells.loc[("erm", "SIM_APTOS", "qwk"), "n_seeds"] == 2
    assert cells.loc[("erm", "SIM_RLDR", "qwk"), "n_seeds"] == 1
    assert cells.loc[("erm", "average", "qwk"), "n_seeds"] == 1
    assert np.isnan(cells.loc[("erm", "average", "qwk"), "se"])
    assert cells["low"].isna().all()


def test_missing_domain_leaves_no_average(study):
    scores = collect([folder for folder in study if folder.parts[-3:-1] != ("erm", "SIM_RLDR")])
    cells = average(scores)
    assert "average" not in set(cells.loc[cells["method"] == "erm", "held_out"])
    entry = summary(scores)["dg"]
    assert entry["erm"] == dict.fromkeys(("auc", "accuracy", "macro_f1", "qwk", "mae"))
    assert entry["clip_dr"]["auc"] == pytest.approx(
        cells.set_index(["method", "held_out", "metric"]).loc[("clip_dr", "average", "auc"), "mean"]
    )


def test_headline_of_a_swad_run_is_its_own_rule(manifest, tmp_path):
    """A run with averaged weights has no source_val rows: its own rule enters the headline."""
    folders = []
    for method, rule in (("erm", "source_val"), ("drgen", "swad")):
        predictions = predict(manifest, ["SIM_APTOS"], method)
        predictions["selection"] = predictions["selection"].replace("source_val", rule)
        folder = tmp_path / "runs" / "dg" / method / "SIM_APTOS" / "0"
        folder.mkdir(parents=True)
        write(score(predictions, manifest, 20), folder)
        folders.append(folder)
    averages = average(collect(folders), collect_draws(folders))
    assert averages.groupby("method")["selection"].unique().map(list).to_dict() == {
        "erm": ["source_val"],
        "drgen": ["swad"],
    }
    assert averages["low"].notna().all()
    last = average(collect(folders), collect_draws(folders, "last"), "last")
    assert set(last["selection"]) == {"last"}
    assert set(last["method"]) == {"erm", "drgen"}


def test_runs_that_cannot_be_compared_are_refused(study, manifest):
    scores, draws = collect(study), collect_draws(study)
    with pytest.raises(DataError, match="occurs twice"):
        average(pd.concat([scores, scores]))
    with pytest.raises(DataError, match="different test images"):
        average(scores.assign(n=scores["n"].where(scores["method"] == "erm", 7)))
    with pytest.raises(DataError, match="draws: dg/erm/SIM_APTOS/0 has none for"):
        average(scores, {})
    with pytest.raises(DataError, match="numbers of resamples"):
        average(
            scores,
            draws
            | {("dg", "clip_dr", "SIM_APTOS", 0): {"source_val/SIM_APTOS": np.zeros((61, 5))}},
        )


def test_image_weighs_the_same_alone_and_in_every_pool(manifest):
    """Pools of two esdg sources share domains, so each domain has its own draws."""
    pool = predict(
        manifest, ["SIM_APTOS", "SIM_IDRID"], protocol="esdg", held_out="all_but_SIM_RLDR"
    )
    draws = score(pool, manifest, 50).draws
    index = list(MEASURES).index("accuracy")
    whole, *alone = (
        draws[f"last/{domain}"][index] for domain in ("pooled", "SIM_APTOS", "SIM_IDRID")
    )
    np.testing.assert_allclose(whole, np.average(alone, axis=0, weights=[120, 80]), atol=1e-12)


def test_averages_of_overlapping_pools_count_each_image_once(manifest):
    """Under esdg every domain is tested once per other source; n counts images, not tests."""
    frames, draws = [], {}
    for source in SIZES:
        held_out = f"all_but_{source}"
        result = score(
            predict(
                manifest,
                [name for name in SIZES if name != source],
                protocol="esdg",
                held_out=held_out,
            ),
            manifest,
            20,
        )
        frames.append(result.scores)
        draws["esdg", "clip_dr", held_out, 0] = {
            key: value for key, value in result.draws.items() if key.startswith("source_val")
        }
    scores = pd.concat(frames, ignore_index=True)

    over_pools = average(scores, draws).set_index(["held_out", "metric"]).xs("auc", level="metric")
    assert over_pools["n"].to_dict() == {
        "all_but_SIM_APTOS": 180,
        "all_but_SIM_IDRID": 220,
        "all_but_SIM_RLDR": 200,
        "average": sum(SIZES.values()),
    }
    assert over_pools.loc["average", ["clusters", "unit", "n_domains"]].to_list() == [
        60 + 80 + 50,
        "mixed",
        3,
    ]

    of_one = average(
        scores[scores["held_out"] != "all_but_SIM_IDRID"], draws, domain="SIM_IDRID"
    ).query("metric == 'auc'")
    assert of_one.set_index("held_out")["n"].to_dict() == dict.fromkeys(
        ["all_but_SIM_APTOS", "all_but_SIM_RLDR", "average"], 80
    )
