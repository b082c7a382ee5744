"""Layout of the report: its sections in order, with titles and leads. Constants only."""

from __future__ import annotations

from typing import NamedTuple

# protocol -> its heading where a section shows several; others (of a sub-package) by their own name
PROTOCOLS = {
    "dg": "One domain held out (dg)",
    "esdg": "One source domain (esdg)",
    "lodo_crossval": "One domain held out, crossval files only (lodo_crossval)",
    "within": "Inside one domain (within)",
}


class Section(NamedTuple):
    """A section of the report: title, and the paragraph below it ("" for none)."""

    title: str
    lead: str = ""


# id of the section -> Section, in the order of the report
SECTIONS = {
    "benchmark": Section(
        "Benchmark",
        "Scores on hospitals that were held out of training, validation and selection. "
        "One column per held-out domain.",
    ),
    "comparisons": Section(
        "Paired comparisons",
        "Every method against the reference on the same resamples of patients. "
        "A difference in bold has p < 0.05 after Holm's correction.",
    ),
    "grades": Section(
        "Recall per grade",
        "Share of the images of each grade that are predicted as that grade. "
        "A collapse to grade 0 shows here.",
    ),
    "referable": Section(
        "Referable DR (grade >= 2)",
        "Sensitivity and specificity at a threshold frozen on source validation, "
        "without images of the held-out domain.",
    ),
    "calibration": Section(
        "Calibration",
        "Agreement of the predicted P(grade >= k) with the observed frequency, before and after "
        "one temperature fitted on source validation.",
    ),
    "similarity": Section(
        "Similarity of images and texts",
        "Mean cosine between the test images of each true grade (rows) and the text of each grade "
        "(columns), selected checkpoint, lowest seed. "
        "In an ordinal model every row falls with the distance from the outlined cell.",
    ),
    "confusion": Section(
        "Confusion matrices", "True grade (rows) against the most probable grade (columns)."
    ),
    "training": Section(
        "Training",
        "Loss and score on source validation. The held-out domain is not in these curves.",
    ),
    "maps": Section(
        "Activation maps and features",
        "Activation maps and image features. A map shows which region a score depends on, not "
        "whether the reason is sound.",
    ),
    "gallery": Section(
        "Largest errors",
        "Test images of each held-out domain whose expected grade is farthest from the true one.",
    ),
    "data": Section("Data"),
    "leaks": Section(
        "Leakage",
        "Images and patients that the splits of each fold share. Images are compared by bytes, "
        "pixels, names and patients; near-duplicates are found too.",
    ),
    "selection": Section(
        "Model selection",
        "Checkpoints are selected on source validation. The last weights, and an oracle where one "
        "was run, show the effect of another rule.",
    ),
    "deviations": Section("Deviations from the papers"),
    "environment": Section(
        "Environment and commit", "Software, hardware and cost of the runs, beside their settings."
    ),
    "tripod": Section("Appendix: TRIPOD+AI"),
    "claim": Section("Appendix: CLAIM 2024"),
}
