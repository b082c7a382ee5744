"""From predictions to scores.csv, to averages and to summary.json; and what is refused on the way."""

import json

import numpy as np
import pandas as pd
import pytest

from clipdr import DataError
from clipdr.evaluation import scoring
from clipdr.evaluation.aggregate import average, collect, collect_draws, summary
from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.operating_point import MEASURES
from clipdr.evaluation.predictions import check, read
from clipdr.evaluation.schema import AVERAGES, COLUMNS, PROBABILITIES, SCORES
from clipdr.evaluation.scoring import score, write
from clipdr.evaluation.statistics import interval, resample

SIZES = {"SIM_APTOS": 120, "SIM_IDRID": 80, "SIM_RLDR": 100}


def manifest_of(sizes, by_patient=("SIM_APTOS", "SIM_RLDR")):
    """Two photographs a patient; patients unknown in the other domains."""
    rows = []
    for domain, n in sizes.items():
        grade = np.random.default_rng(n).choice(5, n, p=[0.4, 0.15, 0.2, 0.15, 0.1])
        grade[:5] = range(5)
        for i in range(n):
            patient = str(i // 2) if domain in by_patient else ""
            rows.append(
                {
                    "image": f"{domain}/{i:03d}.png",
                    "domain": domain,
                    "grade": int(grade[i]),
                    "patient": patient,
                    "eye": "",
                }
            )
    return pd.DataFrame(rows)


def predict(manifest, tests, method="clip_dr", seed=0, protocol="dg", held_out=None, skill=3.0):
    """A run's predictions: two selections, validation on all other domains, row order shuffled."""
    rng = np.random.default_rng((seed, len(method), int(10 * skill)))
    frames = []
    for selection in ("source_val", "last"):
        for split in ("val", "test"):
            rows = manifest[manifest["domain"].isin(tests) == (split == "test")]
            logits = rng.normal(size=(len(rows), 5)) + skill * np.eye(5)[rows["grade"]]
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            run = {
                "protocol": protocol,
                "method": method,
                "held_out": held_out or tests[0],
                "seed": np.int32(seed),
            }
            frame = rows[["image", "domain", "grade"]].assign(
                **run, selection=selection, split=split, expected_grade=p @ np.arange(5)
            )
            frame = frame.assign(scale=np.float32(np.nan), **{f"p{k}": p[:, k] for k in range(5)})
            frames.append(
                frame.assign(**{f"logit_{k}": logits[:, k].astype(np.float32) for k in range(5)})[
                    COLUMNS
                ]
            )
    return (
        pd.concat(frames)
        .sample(frac=1, random_state=seed)
        .reset_index(drop=True)
        .astype({"grade": "int8"})
    )


@pytest.fixture(scope="module")
def manifest():
    return manifest_of(SIZES)


@pytest.fixture(scope="module")
def study(manifest, tmp_path_factory):
    """Folders of a small study: 2 methods, 3 held-out domains, 2 seeds; erm lacks seed 1 on SIM_RLDR."""
    folders = []
    for method, skill in (("erm", 1.0), ("clip_dr", 3.0)):
        for held_out in SIZES:
            for seed in (0, 1):
                if (method, held_out, seed) != ("erm", "SIM_RLDR", 1):
                    folder = (
                        tmp_path_factory.getbasetemp()
                        / "runs"
                        / "dg"
                        / method
                        / held_out
                        / str(seed)
                    )
                    folder.mkdir(parents=True)
                    write(
                        score(
                            predict(manifest, [held_out], method, seed, skill=skill), manifest, 60
                        ),
                        folder,
                    )
                    folders.append(folder)
    return folders


def test_scores_of_a_dg_run(manifest):
    predictions = predict(manifest, ["SIM_APTOS"])
    scores, draws, _ = score(predictions, manifest, 50)
    assert list(scores.columns) == SCORES
    groups = (
        scores.groupby(["selection", "split"], sort=False)["domain"].unique().map(list).to_dict()
    )
    val = ["pooled", "SIM_IDRID", "SIM_RLDR"]
    assert groups == {
        (s, split): val if split == "val" else ["SIM_APTOS"]
        for s in ("last", "source_val")
        for split in ("test", "val")
    }
    assert scores["metric"].tolist() == list(MEASURES) * 8
    assert set(scores["stratum"]) == {"all"}
    assert scores.loc[scores["split"] == "val", ["low", "high"]].isna().all().all()
    assert {key: part.shape for key, part in draws.items()} == {
        "last/SIM_APTOS": (61, 50),
        "source_val/SIM_APTOS": (61, 50),
    }
    facts = (
        scores.drop_duplicates("domain")
        .set_index("domain")[["n", "clusters", "unit"]]
        .T.to_dict("list")
    )
    assert facts == {
        "SIM_APTOS": [120, 60, "patient"], "pooled": [180, 130, "image"], "SIM_IDRID": [80, 80, "image"], "SIM_RLDR": [100, 50, "patient"],
    }  # fmt: skip


def test_value_draws_and_interval_are_those_of_the_sorted_rows(manifest):
    predictions = predict(manifest, ["SIM_APTOS"])
    scores, draws, _ = score(predictions, manifest, 50)
    rows = predictions[
        (predictions["selection"] == "last") & (predictions["split"] == "test")
    ].sort_values("image")
    patient = rows["image"].map(manifest.set_index("image")["patient"]).to_numpy()
    weight = resample(patient, 50, "SIM_APTOS")
    table = scores[(scores["selection"] == "last") & (scores["split"] == "test")].set_index(
        "metric"
    )
    for index, (name, metric) in enumerate(METRICS.items()):
        grade, probability = rows["grade"].to_numpy(int), rows[PROBABILITIES].to_numpy()
        expected = metric(grade, probability, weight)
        np.testing.assert_array_equal(draws["last/SIM_APTOS"][index], expected)
        assert table.loc[name, "value"] == pytest.approx(metric(grade, probability)[0], abs=1e-12)
        low, high, undefined = interval(expected)
        np.testing.assert_array_equal(table.loc[name, ["low", "high"]].to_numpy(float), [low, high])
        assert table.loc[name, "undefined"] == undefined


def test_row_order_and_blocks_do_not_matter(manifest, monkeypatch):
    predictions = predict(manifest, ["SIM_IDRID"])
    scores, draws, _ = score(predictions, manifest, 30)
    monkeypatch.setattr(scoring, "WEIGHTS_AT_ONCE", 7 * 80)
    again, again_draws, _ = score(
        predictions.iloc[::-1], manifest.sample(frac=1, random_state=1), 30
    )
    pd.testing.assert_frame_equal(scores, again, check_exact=True)
    for key in draws:
        np.testing.assert_array_equal(draws[key], again_draws[key])


def test_methods_share_their_draws(manifest):
    """The same prediction under two method names has the same draws; a paired difference is then a subtraction."""
    predictions = predict(manifest, ["SIM_IDRID"])
    a, b = (
        score(predictions.assign(method=name, seed=np.int32(seed)), manifest, 20).draws
        for name, seed in (("erm", 0), ("coop", 5))
    )
    np.testing.assert_array_equal(a["last/SIM_IDRID"], b["last/SIM_IDRID"])


def test_several_test_domains_are_pooled_and_single(manifest):
    predictions = predict(
        manifest, ["SIM_APTOS", "SIM_IDRID"], protocol="esdg", held_out="all_but_SIM_RLDR"
    )
    scores, draws, _ = score(predictions, manifest, 10)
    assert set(draws) == {
        f"{s}/{d}" for s in ("last", "source_val") for d in ("pooled", "SIM_APTOS", "SIM_IDRID")
    }
    pool = scores[(scores["split"] == "test") & (scores["domain"] == "pooled")]
    assert set(pool["n"]) == {200}
    assert set(pool["unit"]) == {"image"}
    assert set(pool["clusters"]) == {140}
    cells = average(scores, {("esdg", "clip_dr", "all_but_SIM_RLDR", 0): draws})
    assert set(cells["n"]) == {200}
    np.testing.assert_array_equal(
        cells.loc[cells["held_out"] != "average", "mean"],
        pool.loc[pool["selection"] == "source_val", "value"],
    )


def test_equal_patient_numbers_of_two_domains_are_two_patients_save_in_rldr_and_eyepacs():
    for domains, expected in ((("SIM_APTOS", "SIM_RLDR"), 60 + 50), (("EYEPACS", "RLDR"), 60)):
        manifest = manifest_of(
            dict(zip((*domains, "IDRID"), (120, 100, 30), strict=True)), by_patient=domains
        )
        scores, *_ = score(predict(manifest, list(domains), held_out="all_but_IDRID"), manifest, 2)
        assert set(
            scores.loc[(scores["domain"] == "pooled") & (scores["split"] == "test"), "clusters"]
        ) == {expected}


def test_undefined_stays_undefined(manifest):
    few = manifest[(manifest["domain"] != "SIM_IDRID") | (manifest["grade"] != 4)]
    scores, *_ = score(predict(few, ["SIM_IDRID"]), few, 20)
    test = scores[(scores["split"] == "test") & (scores["selection"] == "last")].set_index("metric")
    assert test.loc[["auc", "recall_4"], ["value", "low", "high"]].isna().all().all()
    assert test.loc["auc", "undefined"] == 20
    assert test.loc[["accuracy", "qwk"], ["value", "low", "high"]].notna().all().all()
    assert np.isnan(
        average(scores).set_index(["held_out", "metric"]).loc[("average", "auc"), "mean"]
    )
    entry = summary(scores)["dg"]["clip_dr"]
    assert entry["auc"] is None
    assert entry["accuracy"] > 0.5
    json.dumps(entry, allow_nan=False)


def test_a_difference_to_scikit_learn_stops(manifest, monkeypatch):
    monkeypatch.setitem(
        scoring.METRICS,
        "mae",
        lambda grade, probability, weight=None: np.zeros(1 if weight is None else len(weight)),
    )
    with pytest.raises(AssertionError, match=r"mae: METRICS gives .*, scikit-learn"):
        score(predict(manifest, ["SIM_IDRID"]), manifest, 1)


def broken(predictions, column, value):
    frame = predictions.astype({"grade": "int64"})
    frame.loc[frame.index[3], column] = value
    return frame


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: broken(f, "p2", np.nan), "row 3 .*NaN"),
        (lambda f: broken(f, "logit_1", np.nan), "row 3 .*NaN"),
        (lambda f: broken(f, "p2", 1.5), "row 3 .*sum to 1"),
        (lambda f: broken(f, "grade", 7), r"row 3 .*grade is not 0\.\.4"),
        (lambda f: broken(f, "split", "train"), "row 3 .*split"),
        (
            lambda f: broken(f, "image", "SIM_APTOS/else.png"),
            r"row 3 \(SIM_APTOS/else.png\): not in the manifest",
        ),
        (lambda f: broken(f, "domain", "SIM_DEEPDR"), "row 3 .*domain differs"),
        (lambda f: f.assign(grade=(f["grade"] + 1) % 5), "row 0 .*grade differs"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "row 600 .*second prediction"),
        (lambda f: broken(f, "method", "erm"), "more than one method"),
        (lambda f: f.drop(columns="scale"), "no column scale"),
        (lambda f: f.iloc[:0], "no rows"),
    ],
)
def test_broken_predictions_are_refused_by_row(manifest, damage, message):
    predictions = predict(manifest, ["SIM_APTOS"])
    check(predictions, manifest)
    with pytest.raises(DataError, match=f"runs/p.parquet: {message}"):
        score(damage(predictions), manifest, 1, name="runs/p.parquet")


def test_a_manifest_that_lists_an_image_twice_is_refused(manifest):
    with pytest.raises(DataError, match="listed twice"):
        score(predict(manifest, ["SIM_APTOS"]), pd.concat([manifest, manifest.iloc[:1]]), 1)


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


def test_missing_and_torn_files_are_named(manifest, tmp_path):
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
    drawn = np.mean(
        [draws["dg", "clip_dr", h, s][f"source_val/{h}"][0] for h in SIZES for s in (0, 1)], axis=0
    )
    assert (cell["low"], cell["high"]) == pytest.approx(
        np.percentile(drawn, [2.5, 97.5]), abs=1e-12
    )
    assert (cell["unit"], cell["n"], cell["clusters"], cell["n_domains"]) == ("mixed", 300, 190, 3)


def test_average_uses_the_seeds_that_have_all_domains(study):
    cells = average(collect(study)).set_index(["method", "held_out", "metric"])
    assert cells.loc[("erm", "SIM_APTOS", "qwk"), "n_seeds"] == 2
    assert cells.loc[("erm", "SIM_RLDR", "qwk"), "n_seeds"] == 1
    assert cells.loc[("erm", "average", "qwk"), "n_seeds"] == 1
    assert np.isnan(cells.loc[("erm", "average", "qwk"), "se"])
    assert cells["low"].isna().all()


def test_a_missing_domain_leaves_no_average(study):
    scores = collect([folder for folder in study if folder.parts[-3:-1] != ("erm", "SIM_RLDR")])
    cells = average(scores)
    assert "average" not in set(cells.loc[cells["method"] == "erm", "held_out"])
    entry = summary(scores)["dg"]
    assert entry["erm"] == dict.fromkeys(("auc", "accuracy", "macro_f1", "qwk", "mae"))
    assert entry["clip_dr"]["auc"] == pytest.approx(
        cells.set_index(["method", "held_out", "metric"]).loc[("clip_dr", "average", "auc"), "mean"]
    )


def test_swad_stands_in_the_headlines_place(manifest, tmp_path):
    """A run whose weights were averaged has no source_val rows: its own rule enters the headline, and is named."""
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


def test_a_photograph_weighs_the_same_alone_and_in_every_pool(manifest):
    """Pools of two sources of esdg share domains: their mean must not count a photograph twice, so each domain has its own draws."""
    pool = predict(
        manifest, ["SIM_APTOS", "SIM_IDRID"], protocol="esdg", held_out="all_but_SIM_RLDR"
    )
    draws = score(pool, manifest, 50).draws
    place = list(MEASURES).index("accuracy")
    whole, *alone = (
        draws[f"last/{domain}"][place] for domain in ("pooled", "SIM_APTOS", "SIM_IDRID")
    )
    np.testing.assert_allclose(whole, np.average(alone, axis=0, weights=[120, 80]), atol=1e-12)


def test_averages_of_overlapping_pools_count_each_photograph_once(manifest):
    """Under esdg every domain is tested once for each other source: n is that of the photographs, not of the tests."""
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
