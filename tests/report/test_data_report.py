"""Data report: counts, sizes, quality with known answers, sample sheets, and an offline file."""

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clipdr import DataError
from clipdr.data.domains import DOMAINS
from clipdr.data.preprocessing import quality
from clipdr.report import data_report, data_report_html
from clipdr.report.data_counts import Domain, count_table, counts
from clipdr.report.data_report_figures import quality_figure, samples, sheet

NAMES = ("SIM_APTOS", "SIM_IDRID", "SIM_RLDR")
SIDE = 48


def manifest(rows, name="APTOS", **columns):
    """A manifest of `rows` images whose disc fills the square."""
    frame = pd.DataFrame(
        {
            "image": [f"{name}/x/p{i:03d}.png" for i in range(rows)],
            "row": range(rows),
            "domain": name,
        }
    )
    frame["grade"], frame["split"], frame["patient"], frame["flag"] = (
        np.resize(np.arange(5), rows),
        "train",
        "",
        "",
    )
    frame["width"], frame["height"] = 640, 480
    for column, value in {
        "cx": SIDE / 2,
        "cy": SIDE / 2,
        "r": SIDE / 2,
        "w": SIDE,
        "h": SIDE,
    }.items():
        frame[column] = value
    return frame.assign(**columns)


def part(name, frame, rejected=()):
    store = np.full((len(frame), SIDE, SIDE, 3), 80, np.uint8)
    refused = pd.DataFrame(rejected, columns=["image", "grade", "split", "reason"])
    return Domain(name, frame, store, refused, quality.measure(frame, store))


def summary(domain):
    """Summary of a domain."""
    return data_report.summary(domain.manifest, domain.rejected, domain.quality)


@pytest.fixture(scope="module")
def report(toy, tmp_path_factory):
    """Data report of the toy study, with one rejected image whose reason holds HTML."""
    data = tmp_path_factory.mktemp("data")
    for folder in ("manifests", "store"):
        shutil.copytree(toy / folder, data / folder)
    (data / "rejected").mkdir()
    for name in NAMES:
        rows = (
            [("SIM_RLDR/x/<b>.png", 2, "val", 'not <script>alert("x")</script> & an image')]
            if name == "SIM_RLDR"
            else []
        )
        frame = pd.DataFrame(rows, columns=["image", "grade", "split", "reason"])
        frame.to_csv(data / "rejected" / f"{name}.csv", index=False)
    folder = tmp_path_factory.mktemp("report")
    assert sorted(data_report.write(NAMES, data, folder)) == sorted(
        path.name for path in folder.iterdir()
    )
    return folder, data


def test_quality_has_the_known_answers():
    """A flat image, a checkerboard, and images with a white or a black half."""
    frame = manifest(4)
    store = np.full((4, SIDE, SIDE, 3), 100, np.uint8)
    chequered = np.indices((SIDE, SIDE)).sum(0) % 2
    store[1, ..., 1] = 100 + 20 * chequered  # the Laplacian is 80 or -80 everywhere
    store[2, : SIDE // 2] = 255
    store[3, :, : SIDE // 2] = 0
    measured = quality.measure(frame, store)
    assert measured["sharpness"][0] == 0
    assert measured["sharpness"][1] == pytest.approx(6400, rel=1e-3)
    assert measured["brightness"].to_list() == pytest.approx(
        [100, 100 + 10 / 3, 177.5, 50], rel=1e-3
    )
    assert measured["bright_clipped"].to_list() == pytest.approx([0, 0, 0.5, 0], abs=1e-6)
    assert measured["dark_clipped"].to_list() == pytest.approx([0, 0, 0, 0.5], abs=1e-6)


def test_quality_looks_inside_the_disc_only():
    """The black corners and the rim count for nothing, however large they are."""
    y, x = np.indices((SIDE, SIDE)) + 0.5
    inside = (x - SIDE / 2) ** 2 + (y - SIDE / 2) ** 2 <= (SIDE / 3) ** 2
    store = np.where(inside[None, ..., None], [120] * 3, 0).astype(np.uint8)
    measured = quality.measure(manifest(1, r=SIDE / 3), store).iloc[0]
    assert measured["dark_clipped"] == 0
    assert measured["brightness"] == 120
    assert measured["sharpness"] < 1
    assert np.isnan(quality.measure(manifest(1, r=0.0), store)[quality.COLUMNS]).all(axis=None)


def test_image_without_a_known_disc_is_not_measured():
    """Its background would count as underexposed retina and its rim as sharpness.

    A figure without any measured image is plotted all the same.
    """
    store = np.full((3, SIDE, SIDE, 3), 80, np.uint8)
    measured = quality.measure(manifest(3, flag=["squeezed", "text", "no_disc text"]), store)
    assert measured["brightness"].isna().to_list() == [True, False, True]
    flagged = part("CLINIC", manifest(10, "CLINIC", flag="squeezed"))
    assert summary(flagged).quality == ["n/a"] * 4
    assert summary(flagged).measured == 0
    assert quality_figure({"CLINIC": flagged.quality}) is not None


def test_blur_lowers_sharpness_of_every_image(toy):
    from scipy import ndimage

    frame = pd.read_csv(toy / "manifests/SIM_APTOS.csv", keep_default_na=False)
    store = np.load(toy / "store/SIM_APTOS.npy")
    blurred = ndimage.gaussian_filter(store, (0, 1, 1, 0))
    assert (
        quality.measure(frame, blurred)["sharpness"] < quality.measure(frame, store)["sharpness"]
    ).all()


def test_counts_are_compared_with_the_official_ones():
    official = DOMAINS["IDRID"].counts
    rows = [
        (grade, split)
        for split, counts in official.items()
        for grade, count in enumerate(counts)
        for _ in range(count)
    ]
    frame = manifest(len(rows), "IDRID").assign(
        grade=[grade for grade, _ in rows], split=[split for _, split in rows]
    )
    whole = counts([part("IDRID", frame)])
    assert (whole["difference"] == 0).all()
    assert whole["images"].sum() == sum(map(sum, official.values()))
    less = frame.iloc[2:].reset_index(
        drop=True
    )  # two images of grade 0 in train: one was rejected, one is missing
    counted = counts([part("IDRID", less, [("IDRID/x/bad.png", 0, "train", "empty file")])])
    row = counted[(counted["split"] == "train") & (counted["grade"] == 0)].iloc[0]
    assert (row["images"], row["rejected"], row["official"], row["difference"]) == (132, 1, 134, -1)
    cells = count_table(counted).cells.set_index(["method", "column"])["text"]
    assert cells["IDRID train", "no DR"] == "132 (of 134)"
    assert cells["IDRID train", "mild"] == "20"
    assert cells["IDRID train", "Official"] == "413"
    assert cells["IDRID train", "Rejected"] == "1"


def test_custom_dataset_has_no_official_counts():
    clinic = part("CLINIC", manifest(10, "CLINIC"))
    table = count_table(counts([clinic]))
    assert "SYNTHETIC" not in table.caption
    assert set(table.cells.loc[table.cells["column"] == "Official", "text"]) == {"none"}
    assert summary(clinic).facts == ["A custom dataset."]


def test_report_of_the_toy_study_has_its_files(report):
    folder, _ = report
    counted = pd.read_csv(folder / "counts.csv")
    assert len(counted) == 3 * 2 * 5
    assert counted["images"].sum() == 120
    assert counted.loc[counted["domain"] == "SIM_RLDR", "rejected"].sum() == 1
    assert counted["official"].isna().all()
    assert pd.read_csv(folder / "resolutions.csv").groupby("domain")[
        "images"
    ].sum().to_dict() == dict.fromkeys(NAMES, 40)
    measured = pd.read_csv(folder / "quality.csv")
    assert len(measured) == 120
    assert measured[quality.COLUMNS].notna().all(axis=None)
    for name in ("counts.md", "counts.tex"):
        text = (folder / name).read_text()
        assert "SYNTHETIC" in text
        assert "Domain and split" in text


def test_samples_are_of_their_grade_and_always_the_same(report):
    folder, data = report
    listed_samples = pd.read_csv(folder / "samples.csv")
    assert listed_samples.groupby(["domain", "grade"]).size().eq(8).all()
    assert not listed_samples.duplicated(["domain", "image"]).any()
    for name in NAMES:
        listed = pd.read_csv(data / "manifests" / f"{name}.csv").set_index("image")["grade"]
        rows = listed_samples[listed_samples["domain"] == name]
        assert (listed[rows["image"]].to_numpy() == rows["grade"].to_numpy()).all()
    again = samples(data_report.read("SIM_RLDR", data).manifest)
    assert (
        again["image"].tolist()
        == listed_samples.loc[listed_samples["domain"] == "SIM_RLDR", "image"].tolist()
    )


def test_sheet_shows_the_stored_images(report):
    folder, _ = report
    with Image.open(folder / "samples_SIM_RLDR.png") as image:
        assert image.width > 1200
        assert np.asarray(image.convert("RGB")).std() > 20
    frame = manifest(2, "CLINIC").assign(grade=4)  # four empty rows, six empty places: no error
    assert sheet(frame, part("CLINIC", frame).store) is not None


class Loaded(HTMLParser):
    """What a file would fetch, and the elements that it opens and leaves open."""

    def __init__(self):
        super().__init__()
        self.links, self.open, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [
            value for key, value in attributes if key in ("src", "href", "srcset", "data")
        ]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_needs_nothing_else_and_runs_nothing(report):
    folder, _ = report
    text = (folder / "index.html").read_text()
    page = Loaded()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert len(page.links) == 4  # a figure of the quality and three sheets
    assert all(link.startswith("data:image/") for link in page.links)
    assert "url(" not in text
    assert not re.search(r"https?://", text)
    assert "&lt;script&gt;" in text
    assert "SIM_RLDR/x/&lt;b&gt;.png" in text
    assert "SYNTHETIC" in text


def test_fragment_fits_into_another_page(report):
    folder, data = report
    parts = [data_report.read(name, data) for name in NAMES]
    table = count_table(counts(parts))
    fragment = data_report_html.fragment(table, [summary(one) for one in parts], folder)
    assert fragment.startswith('<section class="data-report">')
    assert "<html" not in fragment
    assert fragment in (folder / "index.html").read_text()


def test_report_of_the_same_data_is_the_same(report, tmp_path):
    folder, data = report
    data_report.write(NAMES, data, tmp_path)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_names_that_a_spreadsheet_would_run_are_disarmed():
    frame = samples(manifest(3, "CLINIC").assign(image=["=cmd()", "@x", "plain"]))
    assert sorted(line.split(",")[3] for line in data_report._csv(frame).splitlines()[1:]) == [
        "'=cmd()",
        "'@x",
        "plain",
    ]


def test_missing_list_of_rejected_files_is_one_line(toy, tmp_path):
    for folder in ("manifests", "store"):
        shutil.copytree(toy / folder, tmp_path / folder)
    with pytest.raises(DataError, match=r"rejected/SIM_APTOS.csv.*prepare") as error:
        data_report.read("SIM_APTOS", tmp_path)
    assert "\n" not in str(error.value)
