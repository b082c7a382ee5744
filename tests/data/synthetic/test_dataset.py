"""The synthetic domains: layout, determinism, priors, anatomy, lesions, words. Input: none; everything is drawn here."""

import csv
import hashlib
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from clipdr import DataError
from clipdr.data.domains import FOLDERS, SYNTHETIC
from clipdr.data.synthetic import dataset
from clipdr.data.synthetic.findings import (
    GRADE_WORDS,
    MANY,
    QUADRANTS,
    Findings,
    describe,
    draw,
    icdr,
    scottish,
)
from clipdr.data.synthetic.patients import COLUMNS, FEWEST, cohort, eye, prior, record
from clipdr.data.synthetic.renderer import Eye, paint

DOMAINS = ["SIM_IDRID", "SIM_APTOS"]
PATIENTS, SIZE, SEED = 12, 96, 7
EXAMPLES = {
    grade: [draw(grade, np.random.default_rng([grade, k])) for k in range(1, 81)]
    for grade in range(5)
}


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    dataset.write(root, DOMAINS, PATIENTS, SIZE, SEED, 1)
    return root


@pytest.fixture(scope="module")
def rows(study):
    with open(study / "patients.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Files ---------------------------------------------------------------------------------------------------------------------------------


def test_same_bytes_with_two_processes_and_in_another_order(study, tmp_path):
    dataset.write(tmp_path, DOMAINS[::-1], PATIENTS, SIZE, SEED, 2)
    one, two = digests(study), digests(tmp_path)
    one.pop("patients.csv"), two.pop("patients.csv")  # rows follow the order of the domains
    assert one == two and len(one) > 2 * PATIENTS


def test_another_seed_gives_other_photographs_and_leaves_no_old_ones(tmp_path):
    dataset.write(tmp_path, ["SIM_IDRID"], 6, 64, 1, 1)
    first = digests(tmp_path / "images")
    dataset.write(tmp_path, ["SIM_IDRID"], 6, 64, 2, 1)
    second = digests(tmp_path / "images")
    listed = {
        line.split()[0]
        for path in (tmp_path / "splits").iterdir()
        for line in path.read_text().splitlines()
    }
    assert set(second) == listed
    assert not set(first.values()) & set(second.values())


def test_layout_is_that_of_gdrbench(study):
    suffix = {"SIM_IDRID": ".jpg", "SIM_APTOS": ".png"}
    for domain in DOMAINS:
        lines = [
            line
            for split in ("train", "crossval")
            for line in (study / "splits" / f"{domain}_{split}.txt").read_text().splitlines()
        ]
        assert len(lines) == len(set(lines)) > PATIENTS
        for line in lines:
            path, grade = line.rsplit(" ", 1)
            assert re.fullmatch(
                rf"{domain}/{FOLDERS[int(grade)]}/p\d{{4}}_(left|right)\{suffix[domain]}", path
            )
            with Image.open(study / "images" / path) as image:
                assert image.mode == "RGB" and min(image.size) >= 0.85 * SIZE
    assert not list(study.rglob("*.part"))


def test_table_agrees_with_the_split_files(study, rows):
    assert tuple(rows[0]) == COLUMNS and len(rows) == PATIENTS * len(DOMAINS)
    listed = {}
    for domain in DOMAINS:
        for split, name in dataset.SPLITS.items():
            for line in (study / "splits" / f"{domain}_{name}.txt").read_text().splitlines():
                path, grade = line.rsplit(" ", 1)
                listed[path] = (split, grade)
    told = {
        row[f"image_{side}"]: (row["split"], row[f"grade_{side}"])
        for row in rows
        for side in ("left", "right")
        if row[f"image_{side}"]
    }
    assert told == listed
    for row in rows:
        for side in ("left", "right"):
            assert (
                bool(row[f"text_{side}"]) == bool(row[f"image_{side}"]) == bool(row[f"sdrg_{side}"])
            )
            assert row[f"text_{side}"] in row["report"]


GOOD = {"domains": ["SIM_APTOS"], "patients": 2, "size": 64, "seed": 0, "processes": 1}


@pytest.mark.parametrize(
    "bad",
    [
        {"domains": ["APTOS"]},
        {"domains": ["SIM_X"]},
        {"patients": 0},
        {"size": 8},
        {"seed": -1},
        {"processes": 0},
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, bad):
    with pytest.raises(DataError, match="synthetic"):
        dataset.write(tmp_path, **(GOOD | bad))
    assert not list(tmp_path.iterdir())


# Patients ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", SYNTHETIC)
def test_priors_are_those_of_the_imitated_domain(domain):
    grades = Counter(
        grade for patient in cohort(domain, 200, 3) for grade in patient.grades.values()
    )
    total = sum(grades.values())
    share = np.array([grades[grade] / total for grade in range(5)])
    assert np.abs(share - prior(domain)).max() < 0.011


@pytest.mark.parametrize("patients", [25, 60, 100])
@pytest.mark.parametrize("domain", SYNTHETIC)
def test_every_split_holds_every_grade_twice(domain, patients):
    for seed in range(3):
        group = cohort(domain, patients, seed)
        for split in ("train", "val"):
            counts = Counter(
                grade
                for patient in group
                if patient.split == split
                for grade in patient.grades.values()
            )
            assert all(counts[grade] >= FEWEST // 2 for grade in range(5)), (seed, split, counts)
        share = np.mean([patient.split == "val" for patient in group])
        assert share == pytest.approx(0.2, abs=0.12 if patients < 60 else 0.01)


def test_fellow_eyes_are_correlated_but_not_equal():
    pairs = np.array(
        [
            tuple(p.grades.values())
            for domain in SYNTHETIC
            for p in cohort(domain, 150, 1)
            if len(p.grades) == 2
        ]
    )
    assert 0.75 < np.corrcoef(pairs.T)[0, 1] < 0.97
    assert 0.5 < np.mean(pairs[:, 0] == pairs[:, 1]) < 0.9


def test_a_few_patients_are_monocular():
    group = cohort("SIM_RLDR", 100, 0)
    assert sum(len(patient.grades) == 1 for patient in group) == 4
    lone = next(patient for patient in group if len(patient.grades) == 1)
    absent = ({"left", "right"} - set(lone.grades)).pop()
    row = record(lone, 0)
    assert row[f"image_{absent}"] == row[f"text_{absent}"] == row[f"grade_{absent}"] == ""
    assert f"{absent.capitalize()} eye" not in row["report"]


def test_history_is_informative_and_has_gaps():
    rows = [record(patient, 0) for patient in cohort("SIM_DEEPDR", 150, 0)]
    worst = np.array(
        [
            max(int(row[name]) for name in ("grade_left", "grade_right") if row[name] != "")
            for row in rows
        ]
    )
    known = np.array([row["diabetes_years"] != "" for row in rows])
    years = np.array([row["diabetes_years"] or 0 for row in rows], float)
    assert 0.3 < np.corrcoef(worst[known], years[known])[0, 1] < 0.95
    for row in rows:
        if row["diabetes"] == "no":
            assert row["diabetes_years"] == row["insulin"] == ""
    assert 0 < sum(row["age"] == "" for row in rows) < 30


# Findings and words --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grade", range(5))
def test_findings_meet_the_definition_of_their_grade(grade):
    assert {icdr(findings) for findings in EXAMPLES[grade]} == {grade}


def test_scale_by_hand():
    assert icdr(Findings()) == scottish(Findings()) == 0
    assert icdr(Findings(microaneurysms=1)) == 1
    assert icdr(Findings(microaneurysms=3, cotton_wool=1)) == 2
    many = (MANY,) * 4
    assert icdr(Findings(haemorrhages=many)) == 3
    assert icdr(Findings(haemorrhages=(*many[:3], MANY - 1))) == 2
    assert icdr(Findings(beading=QUADRANTS[:1])) == 2
    assert icdr(Findings(beading=QUADRANTS[:2])) == icdr(Findings(irma=QUADRANTS[:1])) == 3
    assert icdr(Findings(preretinal=QUADRANTS[2:3])) == icdr(Findings(vitreous=True)) == 4
    assert scottish(Findings(haemorrhages=(4, 0, 0, 0))) == 2
    assert scottish(Findings(haemorrhages=(4, 0, 4, 0))) == 3


def test_neighbouring_grades_overlap_in_counts():
    for milder, worse, count in (
        (1, 2, lambda f: f.microaneurysms),
        (2, 3, lambda f: sum(f.haemorrhages)),
    ):
        low, high = [count(f) for f in EXAMPLES[milder]], [count(f) for f in EXAMPLES[worse]]
        assert max(low) > min(high) and np.mean(low) < np.mean(high)


def named(text):
    """Grades whose names stand in a text."""
    found = set()
    for grade, words in enumerate(GRADE_WORDS):
        if re.search(rf"(?<![-\w]){re.escape(words)}", text, re.IGNORECASE):
            found.add(grade)
    return found


@pytest.mark.parametrize("grade", range(5))
def test_text_names_no_other_grade_and_no_lesion_that_is_not_there(grade):
    stated = 0
    for k, findings in enumerate(EXAMPLES[grade]):
        text = describe(findings, 0.4, 0.5, np.random.default_rng([k, 1]))
        assert named(text) <= {grade}, text
        stated += named(text) == {grade}
        lower = re.sub(r"\bno [^.]*|without [^.]*", "", text.lower())  # negations
        has = {
            "microaneurysm": findings.microaneurysms > 0,
            "intraretinal haemorrhage|dot and blot": any(findings.haemorrhages),
            "exudate": bool(findings.exudates),
            "cotton-wool": findings.cotton_wool > 0,
            "venous beading": bool(findings.beading),
            "irma|microvascular": bool(findings.irma),
            "neovascularisation|new vessels": findings.disc_vessels or bool(findings.vessels),
            "preretinal": bool(findings.preretinal),
            "vitreous haemorrhage": findings.vitreous,
            "laser": findings.laser,
        }
        for words, present in has.items():
            assert bool(re.search(words, lower)) == present, (words, text)
    assert 0.5 * len(EXAMPLES[grade]) < stated < len(EXAMPLES[grade])


# Photographs ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", SYNTHETIC)
def test_disc_is_nasal(domain):
    """The brightest column of right eyes, less their mirror image and what left eyes show there, is the disc's: right of the centre."""
    lean = {}
    for side in ("left", "right"):
        photographs = [
            Image.fromarray(paint(eye(domain, number, side, 0, 0), 96)[0])
            for number in range(1, 31)
        ]
        column = np.mean(
            [
                np.asarray(photograph.resize((30, 20), Image.Resampling.BOX))[6:14, :, 1]
                for photograph in photographs
            ],
            (0, 1),
        )
        lean[side] = column - column[::-1]
    assert (lean["right"] - lean["left"])[2:-2].argmax() + 2 > 15


def test_side_mirrors_the_retina_and_nothing_else():
    masks = {
        side: paint(Eye(side, EXAMPLES[3][0], "FGADR", (1, 2, 3)), 128)[1]
        for side in ("left", "right")
    }
    mirrored = masks["right"][:, ::-1]
    overlaps = []
    for shift in range(-6, 7):  # the field need not be centred
        moved = np.roll(mirrored, shift, 1)
        overlaps.append((masks["left"] & moved).sum() / (masks["left"] | moved).sum())
    assert max(overlaps) > 0.6


def test_lesion_area_grows_with_grade():
    area = []
    for grade in range(5):
        masks = [
            paint(Eye("left", findings, "FGADR", (5, k + 1)), 96)[1].mean()
            for k, findings in enumerate(EXAMPLES[grade][:12])
        ]
        assert (max(masks) == 0) if grade == 0 else (min(masks) > 0)
        area.append(np.mean(masks))
    assert all(worse > 1.3 * milder for milder, worse in pairwise(area)), area


@pytest.mark.parametrize(
    "findings",
    [
        Findings(microaneurysms=8),
        Findings(haemorrhages=(2, 2, 2, 2)),
        Findings(exudates=("macular", *QUADRANTS[:2])),
        Findings(cotton_wool=4),
        Findings(beading=QUADRANTS),
        Findings(irma=QUADRANTS),
        Findings(disc_vessels=True),
        Findings(vessels=QUADRANTS[:2]),
        Findings(preretinal=QUADRANTS[2:]),
        Findings(vitreous=True),
        Findings(laser=True),
    ],
    ids=lambda findings: next(
        name for name, value in vars(findings).items() if value != getattr(Findings(), name)
    ),
)
@pytest.mark.parametrize("style", ["MESSIDOR", "RLDR"])
def test_every_lesion_is_seen_where_the_mask_says(findings, style):
    """Against the healthy twin, at 128 pixels: the photograph differs inside the mask and hardly outside."""
    inside, outside = [], []
    for k in range(1, 4):
        (ill, lesions), (well, none) = (
            paint(Eye("right", f, style, (k, 9)), 128) for f in (findings, Findings())
        )
        assert ill.shape[:2] == lesions.shape and lesions.dtype == bool
        assert 0 < lesions.mean() < 0.6 and not none.any()
        change = np.abs(ill.astype(int) - well).max(2)
        inside.append(change[lesions].mean()), outside.append(change[~lesions].mean())
    assert np.mean(inside) > 8 and np.mean(inside) > 3 * np.mean(outside), (inside, outside)


def test_mask_of_a_written_image_is_the_painted_one(study, rows):
    for row in rows:
        for side in ("left", "right"):
            if row[f"image_{side}"]:
                mask = dataset.mask(row[f"image_{side}"], SIZE, SEED)
                with Image.open(study / "images" / row[f"image_{side}"]) as image:
                    assert mask.shape == image.size[::-1]
                assert mask.any() == (int(row[f"grade_{side}"]) > 0)
    for bad in ("SIM_APTOS/p0001_left.png", "SIM_APTOS/pdr/one.png", "APTOS/pdr/p0001_left.png"):
        with pytest.raises(DataError, match="synthetic"):
            dataset.mask(bad, SIZE, SEED)


def test_haemorrhages_lie_in_their_quadrants():
    for index, name in enumerate(QUADRANTS):
        counts = tuple(8 if i == index else 0 for i in range(4))
        _, lesions = paint(
            Eye("right", Findings(haemorrhages=counts), "FGADR", (3, index + 1)), 128
        )
        y, x = np.argwhere(lesions).mean(0) / lesions.shape
        assert (y > 0.5) == ("inferior" in name or "infero" in name)
        assert (x > 0.5) == ("nasal" in name)  # right eye: nose on the right


def test_findings_follow_from_the_key_not_from_the_cohort():
    assert eye("SIM_FGADR", 3, "left", 2, 5) == eye("SIM_FGADR", 3, "left", 2, 5)
    keys = [
        ("SIM_FGADR", 3, "left", 5),
        ("SIM_FGADR", 3, "right", 5),
        ("SIM_FGADR", 4, "left", 5),
        ("SIM_FGADR", 3, "left", 6),
        ("SIM_IDRID", 3, "left", 5),
    ]
    assert len(
        {eye(domain, number, side, 2, seed).key for domain, number, side, seed in keys}
    ) == len(keys)
