"""Sources of patients tables on real ODIR data."""

import pandas as pd
import pytest

from clipdr.data.sources.odir import keywords
from clipdr.evaluation.retrieval import contents, upper_bound
from clipdr.pretrain.data import patient_sources, patients_table


@pytest.mark.realdata
def test_recall_upper_bounds_of_odir_have_the_known_values(realdata):
    """Upper bounds of recall at 1, 5 and 10 in percent, for four definitions of equal texts."""
    odir = patient_sources.odir(realdata / "odir")
    side = {
        name: odir[f"text_{name}"].map(lambda text: tuple(sorted(keywords(text))))
        for name in patients_table.SIDES
    }
    both = list(zip(side["left"], side["right"], strict=True))
    rows = {
        "both": (both, 153, (19.1, 38.6, 49.4)),
        "people": (list(zip(both, odir["age"], odir["sex"], strict=True)), 602, (75.3, 98.5, 100)),
        "left": (side["left"], 44, (5.5, 17.5, 26.0)),
        "right": (side["right"], 44, (5.5, 16.9, 26.5)),
    }
    for values, distinct, expected in rows.values():
        content = contents(values)
        assert content.max() + 1 == distinct
        bounds = [100 * upper_bound(content, k) for k in (1, 5, 10)]
        assert bounds == pytest.approx(expected, abs=0.06)


@pytest.mark.realdata
def test_odir_has_the_described_splits_labels_and_grades(realdata):
    odir = patients_table.finish(patient_sources.odir(realdata / "odir"), 0)
    assert odir["split"].value_counts().to_dict() == {"train": 560, "test": 160, "val": 80}
    assert odir[list(patient_sources.ODIR_LABELS)].astype(int).sum().tolist() == [
        196,
        400,
        26,
        50,
        28,
        32,
        33,
        177,
    ]
    grades = pd.concat([odir["grade_left"], odir["grade_right"]]).value_counts().to_dict()
    assert grades == {"0": 962, "2": 393, "1": 213, "3": 21, "": 11}
