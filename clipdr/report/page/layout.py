"""The sections of the page: their order, their titles and leads, and which tables and figures belong to which.

Input: names of tables and figures. Output: {section: names}. Constants and one pure function.
"""

from typing import NamedTuple

MAPS = ("cam", "activation", "map")  # in the names of figures that explain a prediction
# protocol -> its heading where a section shows several; others (of a sub-package) by their own name
PROTOCOLS = {
    "dg": "One domain held out (dg)",
    "esdg": "One source domain (esdg)",
    "lodo_crossval": "One domain held out, crossval files only (lodo_crossval)",
    "within": "Inside one domain (within)",
}


class Topic(NamedTuple):
    """A section that shows tables and figures: those whose name holds one of the words; what no topic claims goes to the first."""

    title: str
    lead: str
    words: tuple[str, ...] = ()


# section -> Topic, in the order of the page; a name that several claim goes to the last of them
TOPICS = {
    "benchmark": Topic(
        "Benchmark",
        "Scores on hospitals that were held out of training, validation and selection; one column per held-out domain.",
    ),
    "comparisons": Topic(
        "Paired comparisons",
        "Every method against the reference on the same resamples of patients. A difference in bold has p < 0.05 after Holm's correction.",
        ("compar", "differ", "paired", "critical"),
    ),
    "grades": Topic(
        "Recall of each grade",
        "Share of the photographs of each grade that are graded right: collapse to grade 0 shows here.",
        ("recall",),
    ),
    "referable": Topic(
        "Referable DR (grade >= 2)",
        "Sensitivity and specificity at a threshold frozen on source validation, before a photograph of the held-out domain is seen.",
        ("referable", "roc", "sensitivity", "specificity"),
    ),
    "calibration": Topic(
        "Calibration",
        "Whether a predicted P(grade >= k) of 70 % is right 7 times in 10, before and after one temperature fitted on source validation.",
        ("calibration", "reliability", "ece", "brier"),
    ),
    "similarity": Topic(
        "Similarity of photographs and texts",
        "Mean cosine between the test photographs of each true grade (rows) and the text of each grade (columns), selected checkpoint, "
        "lowest seed. In an ordinal model every row falls with the distance from the outlined cell.",
        ("similarity", "ordinality"),
    ),
    "confusion": Topic(
        "Confusion matrices",
        "True grade (rows) against the most probable grade (columns).",
        ("confusion",),
    ),
    "training": Topic(
        "Training",
        "Loss and score on source validation; the held-out domain is not in these curves.",
        ("training", "curve", "history"),
    ),
    "maps": Topic(
        "What the models look at",
        "Activation maps and image features. A map shows where a score comes from, not whether the reason is sound.",
        (*MAPS, "embedding"),
    ),
    "gallery": Topic(
        "Worst errors",
        "Of all test photographs of each held-out domain, those whose expected grade is farthest from the true one.",
    ),
    "data": Topic("Data", ""),
    "leaks": Topic(
        "Leaks",
        "What the parts of each fold share. Photographs are compared by bytes, pixels, names and patients; changed copies are found too.",
        ("leak",),
    ),
    "selection": Topic(
        "Honesty of the selection",
        "Checkpoints are chosen on source validation. The last weights, and an oracle where one was run, show what another rule would "
        "have changed.",
        ("selection",),
    ),
    "deviations": Topic("Deviations from the papers", ""),
    "environment": Topic(
        "Environment and commit", "What the runs depended on beside their settings."
    ),
    "tripod": Topic("Appendix: TRIPOD+AI", ""),
    "claim": Topic("Appendix: CLAIM 2024", ""),
}


def shared_out(names):
    """{section: those of the names that belong to it, in order}; the first section takes what no other claims."""
    found = {topic: [] for topic in TOPICS}
    for name in names:
        owners = [
            topic
            for topic, facts_of in TOPICS.items()
            if any(word in name for word in facts_of.words)
        ]
        found[owners[-1] if owners else next(iter(TOPICS))].append(name)
    return found
