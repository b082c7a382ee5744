"""Eye tables, inputs and narratives of the multimodal system: checks M1 to M6 of its specification."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clipdr import DataError
from clipdr.evaluation.retrieval import (
    K,
    ceiling,
    contents,
    equivalent_rank,
    pessimistic,
    ranks,
    recall,
)
from clipdr.multimodal.data import eye_table, label_files, narrative, splits
from clipdr.multimodal.evaluation import baselines, recall_ceiling, sanity_checks

LABELS = Path("labels_original")
ALIASES = {  # version -> renamed columns
    "1.0.0": {},
    "1.0.1": {"insuline": "insulin", "iluminaton": "Illuminaton", "drusens": "drusen"},
    "1.0.2": {
        "insuline": "insulin_use",
        "diabetes_time_y": "diabetes_time",
        "iluminaton": "illumination",
    },
}
COLUMNS = (  # BRSET 1.0.0, and an invented row
    ("image_id", "img00001"), ("patient_id", "7"), ("camera", "Canon CR"), ("patient_age", "61"), ("comorbidities", "diabetes1 SAH"),
    ("diabetes_time_y", "12"), ("insuline", "yes"), ("patient_sex", "2"), ("exam_eye", "1"), ("diabetes", "yes"), ("nationality", "Brazil"),
    ("optic_disc", "1"), ("vessels", "2"), ("macula", "bv"), ("DR_SDRG", "3"), ("DR_ICDR", "2"), ("focus", "1"), ("iluminaton", "1"),
    ("image_field", "0"), ("artifacts", "2"), ("diabetic_retinopathy", "1"), ("macular_edema", "0"), ("scar", "0"), ("nevus", "0"),
    ("amd", "0"), ("vascular_occlusion", "0"), ("hypertensive_retinopathy", "0"), ("drusens", "1"), ("hemorrhage", "0"),
    ("retinal_detachment", "0"), ("myopic_fundus", "0"), ("increased_cup_disc", "0"), ("other", "0"), ("quality", "Inadequate"),
)  # fmt: skip
INVENTED = dict(COLUMNS)
HEALTHY = INVENTED | {
    "image_id": "img00002", "patient_age": "NA", "comorbidities": "NA", "diabetes_time_y": "", "insuline": "", "patient_sex": "1",
    "exam_eye": "2", "diabetes": "no", "macula": "1", "DR_ICDR": "0", "DR_SDRG": "0", "drusens": "0", "quality": "Adequate",
}  # fmt: skip


def brset_file(folder, rows, version="1.0.0"):
    path = folder / ("labels.csv" if version == "1.0.0" else "labels_brset.csv")
    text = (
        pd.DataFrame(rows)
        .rename(columns=ALIASES[version])
        .to_csv(index=False, lineterminator="\r\n")
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    return path


@pytest.fixture(scope="module")
def eyes():
    return splits.split(label_files.synthetic("SIM_DEEPDR", 80, 0), 0)


@pytest.mark.parametrize("version", ALIASES)
def test_m1_every_version_of_brset_gives_the_one_table(tmp_path, version):
    first, second = label_files.brset(brset_file(tmp_path, [INVENTED, HEALTHY], version)).to_dict(
        "records"
    )
    assert (
        first["age"],
        first["sex"],
        first["eye"],
        first["diabetes_years"],
        first["insulin"],
    ) == (61, "female", "right", 12, "yes")
    assert first["hypertension"] == "yes" and first["thyroid_disease"] == "no"
    assert (first["icdr"], first["sdrg"], first["optic_disc"], first["vessels"]) == (2, 3, 0, 1)
    assert (
        np.isnan(first["macula"])
        and np.isnan(first["image_field"])
        and first["artifacts"] == 1
        and first["drusens"] == 1
    )
    assert first["quality"] == "inadequate" and first["image"] == "img00001.jpg"
    assert (
        np.isnan(second["age"])
        and second["sex"] == "male"
        and second["eye"] == "left"
        and second["hypertension"] == ""
    )
    assert (
        second["insulin"] == ""
        and np.isnan(second["diabetes_years"])
        and second["version"] == ("1.0.0" if version == "1.0.0" else "1.0.1+")
    )


@pytest.mark.parametrize(
    "cell",
    [
        {"patient_sex": "0"},
        {"DR_ICDR": "5"},
        {"quality": "good"},
        {"exam_eye": "3"},
        {"diabetes": "maybe"},
    ],
)
def test_m1_an_unknown_value_names_file_row_and_column(tmp_path, cell):
    ((column, value),) = cell.items()
    with pytest.raises(DataError, match=rf"labels.csv: row 1, column {column}: value '{value}'"):
        label_files.brset(brset_file(tmp_path, [INVENTED, HEALTHY | cell]))


def test_m1_an_unknown_column_and_a_duration_without_diabetes_are_refused(tmp_path):
    with pytest.raises(DataError, match="column 'iris' is unknown"):
        label_files.brset(brset_file(tmp_path, [INVENTED | {"iris": "1"}]))
    with pytest.raises(DataError, match="row 0: a duration without diabetes"):
        label_files.brset(brset_file(tmp_path, [HEALTHY | {"diabetes_time_y": "4"}]))


def test_m1_mbrset_codes_sex_artifacts_and_quality_the_other_way(tmp_path):
    row = dict.fromkeys(label_files.MBRSET_DENIED, "0") | {
        "patient": "3", "age": "70", "sex": "0", "dm_time": "9", "insulin": "1", "systemic_hypertension": "0", "file": "3.1.jpg",
        "laterality": "left", "final_artifacts": "yes", "final_quality": "yes", "final_icdr": "", "final_edema": "yes",
    }  # fmt: skip
    path = tmp_path / "labels_mbrset.csv"
    pd.DataFrame(
        [row, row | {"file": "4.1.jpg", "sex": "1", "final_icdr": "4.0", "final_artifacts": "no"}]
    ).to_csv(path, index=False)
    first, second = label_files.mbrset(path).to_dict("records")
    assert (first["sex"], first["artifacts"], first["quality"], first["icdr"], first["sdrg"]) == (
        "female",
        1,
        "adequate",
        -1,
        -1,
    )
    assert (second["sex"], second["artifacts"], second["icdr"]) == ("male", 0, 4)
    assert (
        first["diabetes"] == "yes"
        and first["insulin"] == "yes"
        and first["hypertension"] == "no"
        and first["macular_edema"] == 1
    )


@pytest.mark.realdata
def test_m1_the_published_headers_are_read(realdata, tmp_path):
    found = label_files.brset(realdata / LABELS / "BRSET" / "labels_brset.SYNTHETIC_ROWS.csv")
    assert list(found["icdr"]) == [0, 1, 2, 3, 4] and set(found["sex"]) == {"male"}
    for name, read in {
        "BRSET/labels_brset": label_files.brset,
        "MBRSET/labels_mbrset": label_files.mbrset,
    }.items():
        assert read(realdata / LABELS / f"{name}.HEADER_ONLY.csv").empty


def test_m1_deepeyenet_and_a_table_of_ones_own(tmp_path):
    entry = {"keywords": "Drusen, AMD", "clinical-description": "a  65-year-old man,  dry AMD."}
    for part in ("train", "valid", "test"):
        (tmp_path / f"DeepEyeNet_{part}.json").write_text(
            json.dumps([{f"eyenet0420/{part}_set/{n}.jpg": entry} for n in range(2)])
        )
    found = label_files.deepeyenet(tmp_path)
    assert list(found["split"]) == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert (
        found["keywords"][0] == "amd|drusen"
        and found["description"][0] == "a 65-year-old man, dry AMD."
        and (found["icdr"] == -1).all()
    )
    (tmp_path / "own.csv").write_text(
        "image,patient,eye,icdr,age\na.jpg,1,left,3,50\nb.jpg,1,right,,\n"
    )
    mine = label_files.own(tmp_path / "own.csv")
    assert list(mine["icdr"]) == [3, -1] and np.isnan(mine["age"][1]) and (mine["sdrg"] == -1).all()
    (tmp_path / "bad.csv").write_text("image,gender\na.jpg,1\n")
    with pytest.raises(DataError, match="'gender' is not classified"):
        label_files.own(tmp_path / "bad.csv")


def test_splits_are_by_patient_and_the_leaky_one_says_how_much_it_leaks(eyes):
    assert splits.shared_patients(eyes) == 0 and set(eyes["split"]) == {"train", "val", "test"}
    assert splits.manifest_digest(eyes) == splits.manifest_digest(
        splits.split(eyes.sample(frac=1, random_state=1), 0)
    )
    leaky = splits.split_images(eyes, 0)
    assert splits.shared_patients(leaky) > 0.6
    with pytest.raises(DataError, match="more than one split"):
        splits.check_split(leaky)


def test_m2_denied_cells_change_no_byte_and_a_new_column_fails(eyes):
    train = eyes[eyes["split"] == "train"]
    for inputs in eye_table.ALLOWED:
        before = eye_table.encode(eye_table.view(eyes, inputs), eye_table.constants(train))
        other = sanity_checks.overwritten(eyes, np.random.default_rng(0))
        changed = [
            name
            for name in eye_table.DENIED
            if name not in ("row", "split") and not other[name].equals(eyes[name])
        ]
        assert len(changed) == len(eye_table.DENIED) - 2  # `row` and `split` are places
        after = eye_table.encode(
            eye_table.view(other, inputs), eye_table.constants(other[eyes["split"] == "train"])
        )
        assert (
            before.tobytes() == after.tobytes()
            and before.shape[1] == {"demo": 8, "history": 18}[inputs]
        )
    assert set(eye_table.COLUMNS) == set(eye_table.ALLOWED["history"]) | set(eye_table.DENIED)
    with pytest.raises(DataError, match="classify them"):
        eye_table.check(eyes.assign(iris=1), "table")
    with pytest.raises(DataError, match="denied"):
        eye_table.refuse_columns(["age", "icdr"])


def test_m3_a_planted_missingness_leak_is_reported_and_demo_does_not_move(eyes):
    big = splits.split(label_files.synthetic("SIM_DEEPDR", 200, 1), 0)
    leaky = eye_table.PLANTS["plant_missingness_leak"](big, np.random.default_rng(0))

    def auroc(table):
        train, test = (table[table["split"] == part] for part in ("train", "test"))
        found = baselines.logistic(
            eye_table.missingness(train),
            train["icdr"].to_numpy(),
            {"test": eye_table.missingness(test)},
            0,
        )
        return baselines.any_retinopathy(baselines.logs(found["test"]), test["icdr"].to_numpy())

    assert auroc(leaky) > 0.7 > 0.05 + auroc(big) or auroc(leaky) > max(0.7, auroc(big))
    both = [
        eye_table.encode(eye_table.view(table, "demo"), eye_table.constants(table))
        for table in (big, leaky)
    ]
    assert both[0].tobytes() == both[1].tobytes()
    for name in ("diabetes_years", "insulin"):
        with pytest.raises(DataError, match=f"{name} without diabetes"):
            eye_table.refuse_columns(["age", name])
    with pytest.raises(DataError, match="under history, or not at all"):
        eye_table.view(big, "diabetes_years")


def test_m3_without_diabetes_one_code_whatever_the_cells_hold_and_placeholders_set_no_flag(eyes):
    known = eye_table.constants(eyes)
    healthy = eyes[eyes["diabetes"] == "no"]
    assert len(healthy)
    odd = healthy.assign(diabetes_years=9.0, insulin="yes")
    one, other = (
        eye_table.encode(eye_table.view(table, "history"), known) for table in (healthy, odd)
    )
    assert one.tobytes() == other.tobytes() and not one[:, 9:14].any()
    child = eye_table.without_placeholders(eyes.assign(age=1.0), known)
    assert not eye_table.encode(eye_table.view(child, "demo"), known)[:, 1].any()


def test_m4_narratives(eyes):
    found = narrative.content(eyes, "full", True)
    texts = narrative.narrate(found)
    assert texts == narrative.narrate(narrative.content(eyes, "full", True))
    assert (
        narrative.narrate(found, 0, 1)
        == narrative.narrate(found, 0, 1)
        != narrative.narrate(found, 0, 2)
    )
    pairs = {}
    for one, text in zip(found, texts, strict=True):
        pairs.setdefault(one, set()).add(text)
    assert all(len(said) == 1 for said in pairs.values()) and len(pairs) == len(
        set(texts)
    )  # content equal if and only if text equal
    gone = eyes.head(1).assign(age=np.nan, sex="", diabetes="", hypertension="")
    assert narrative.narrate(narrative.content(gone, "history")) == [""]
    assert "unknown" not in " ".join(texts).lower()
    spoken = {
        **eyes.iloc[0].to_dict(),
        "age": 57.0,
        "sex": "female",
        "diabetes": "yes",
        "diabetes_years": 12.0,
        "insulin": "yes",
    }
    spoken |= dict.fromkeys(eye_table.COMORBIDITIES, "")
    assert (
        narrative.text(narrative.said(spoken, "history"))
        == "57-year-old woman. Diabetes for 12 years, on insulin."
    )
    assert all(
        len(wordings) >= 5 and len(set(wordings)) == len(wordings)
        for wordings in narrative.WORDINGS.values()
    )
    planted = eye_table.PLANTS["plant_identifier_in_text"](eyes, np.random.default_rng(0))
    with pytest.raises(DataError, match="patient's or image's name"):
        narrative.refuse_identifiers(
            narrative.narrate(narrative.content(planted, "findings")), planted, "narratives"
        )
    narrative.refuse_identifiers(
        narrative.narrate(narrative.content(eyes, "findings")), eyes, "narratives"
    )
    narrative.refuse_labels(narrative.narrate(narrative.content(eyes, "history")), "history")
    with pytest.raises(DataError, match="tells the grade"):
        narrative.refuse_labels(texts, "full")
    said = narrative.content(
        eye_table.PLANTS["duplicate_captions"](eyes, np.random.default_rng(0)), "findings"
    )
    assert ceiling(contents(said), 1) < ceiling(contents(narrative.content(eyes, "findings")), 1)


def test_m5_metrics_equal_a_brute_force_reference():
    rng = np.random.default_rng(5)
    for _ in range(30):
        n = int(rng.integers(3, 9))
        score, content = (
            rng.integers(0, 4, (n, n)).astype(float),
            contents(rng.integers(0, 3, n).tolist()),
        )
        for k in K:
            expected, worst, alike = [], [], []
            for i in range(n):
                above, tied = sum(score[i] > score[i, i]), sum(score[i] == score[i, i])
                places = above + np.arange(1, tied + 1)  # each with the same chance
                expected.append(np.mean(places <= k))
                worst.append(float(places[-1] <= k))
                best = max(score[i, j] for j in range(n) if content[j] == content[i])
                alike.append(
                    1 + sum(score[i, j] >= best for j in range(n) if content[j] != content[i]) <= k
                )
            assert np.abs(recall(score, k) - expected).max() <= 1e-12
            assert np.array_equal(pessimistic(score, k), np.array(worst, bool))
            assert np.array_equal(equivalent_rank(score, content) <= k, alike)
            counts = [content.tolist().count(value) for value in set(content.tolist())]
            assert abs(ceiling(content, k) - sum(min(k, count) for count in counts) / n) <= 1e-12
        assert (
            np.abs(
                ranks(score)
                - [
                    np.mean(sum(s > s[i]) + np.arange(1, sum(s == s[i]) + 1))
                    for i, s in enumerate(score)
                ]
            ).max()
            <= 1e-12
        )


def test_m6_ceilings_by_enumeration():
    """All assignments of scores to contents: the best expected strict recall is the ceiling; pessimistic ties lower image -> text."""
    from itertools import product

    said = contents(["a", "a", "b"])
    best = {"expected": 0.0, "worst": 0.0}
    for levels in product(
        range(3), repeat=6
    ):  # score of (image, distinct text), 3 images x 2 texts
        table = np.array(levels, float).reshape(3, 2)[:, said]
        best["expected"] = max(best["expected"], recall(table, 1).mean())
        best["worst"] = max(best["worst"], pessimistic(table, 1).mean())
    assert abs(best["expected"] - ceiling(said, 1)) < 1e-12
    assert abs(best["worst"] - 1 / 3) < 1e-12  # contents seen once / N


@pytest.mark.realdata
def test_m6_ceilings_of_odir(realdata):
    eyes = label_files.odir(realdata / "odir" / "full_df.csv")
    assert len(eyes) == 1600 and eyes["icdr"].value_counts().to_dict() == {
        0: 962,
        1: 213,
        2: 393,
        3: 21,
        -1: 11,
    }
    rows = {row["content"]: row for row in recall_ceiling.ceilings(eyes) if row["part"] == "all"}
    for name, distinct, wanted in (
        ("keywords", 56, (3.5, 11.1, 17.6)),
        ("keywords + age, sex, eye", None, (55.9, 95.3, 99.5)),
    ):
        assert distinct in (None, rows[name]["distinct"])
        for k, value in zip(K, wanted, strict=True):
            assert abs(100 * rows[name][f"ceiling_{k}"] - value) < 0.06
