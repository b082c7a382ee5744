"""Reporting checklists as data, and how far the artefacts of a study answer them.

Input: facts of a study, {name: Fact}. Output: one Answer per item; an item that no fact answers has
the status "author must fill".

Items: TRIPOD+AI (Collins GS et al., TRIPOD+AI statement, BMJ 2024;385:e078378; 27 items in 52
parts) and CLAIM 2024 (Tejani AS et al., Checklist for Artificial Intelligence in Medical Imaging:
2024 update, Radiology: Artificial Intelligence 2024;6(4):e240300; 44 items). The numbers are those
of the sources. The words are paraphrased and shorter, as the report states; the published wording
counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

AUTHOR = "author must fill"
TRIPOD_SOURCE = "Collins GS, Moons KGM, Dhiman P, et al. TRIPOD+AI statement. BMJ 2024;385:e078378."
CLAIM_SOURCE = (
    "Tejani AS, Klontzas ME, Gatti AA, et al. CLAIM: 2024 update. "
    "Radiology: Artificial Intelligence 2024;6(4):e240300."
)


class Fact(NamedTuple):
    """A fact of a study.

    Attributes:
        text: Sentence with its numbers.
        section: Anchor of the section of the report that shows it.
    """

    text: str
    section: str


class Item(NamedTuple):
    """An item of a checklist.

    Attributes:
        number: Number in the source, for example "12c".
        words: What it asks for, paraphrased.
        facts: Names of the facts that answer it.
        rest: What remains for the author even so, "" for nothing.
    """

    number: str
    words: str
    facts: tuple[str, ...] = ()
    rest: str = ""


class Answer(NamedTuple):
    """The answer to an item.

    Attributes:
        number: As of the item.
        words: As of the item.
        status: "answered", "in part" or AUTHOR.
        facts: Facts that are known.
        rest: What the author must add, "" for nothing.
    """

    number: str
    words: str
    status: str
    facts: list[Fact]
    rest: str


def answer(items: Iterable[Item], facts: Mapping[str, Fact]) -> list[Answer]:
    """Answer the items of a checklist.

    Args:
        items: TRIPOD or CLAIM.
        facts: {name: Fact}.

    Returns:
        Answers in the order of the items. An item without any known fact is left to the author.
    """
    rows = []
    for item in items:
        present = [facts[name] for name in item.facts if name in facts]
        absent = [name for name in item.facts if name not in facts]
        missing = [f"this study has no artefact for: {name}" for name in absent]
        rest = "; ".join([item.rest, *missing] if item.rest else missing)
        status = AUTHOR if not present else "in part" if rest else "answered"
        rows.append(Answer(item.number, item.words, status, present, rest))
    return rows


def counted(answers: Iterable[Answer]) -> dict[str, int]:
    """Count answers by status, in the order answered, in part, author must fill."""
    statuses = [answer.status for answer in answers]
    return {status: statuses.count(status) for status in ("answered", "in part", AUTHOR)}


TRIPOD = (
    Item("1", "Title: model development or evaluation, population, outcome"),
    Item("2", "Abstract (TRIPOD+AI for Abstracts)"),
    Item("3a", "Healthcare context and rationale; existing models", (), "context and references"),
    Item("3b", "Target population, purpose in the care pathway, intended users"),
    Item("3c", "Known health inequalities between groups"),
    Item("4", "Objectives: development, evaluation or both", ("goal",), "the clinical objective"),
    Item(
        "5a",
        "Sources of data for development and evaluation",
        ("sources", "partition"),
        "why these, and how representative they are",
    ),
    Item("5b", "Dates of the data", (), "start and end of recruitment of each source"),
    Item(
        "6a", "Setting, number and location of centres", ("sources",), "setting (screening, clinic)"
    ),
    Item("6b", "Eligibility of participants", ("excluded",), "criteria of the original data sets"),
    Item("6c", "Treatments received"),
    Item(
        "7",
        "Preparation of the data and checks of quality",
        ("preprocessing", "quality"),
        "whether it was alike in all groups",
    ),
    Item(
        "8a",
        "Outcome: definition, when and how assessed",
        ("outcome",),
        "how each source was graded",
    ),
    Item("8b", "Assessors of a subjective outcome: who they were", (), "graders of each source"),
    Item("8c", "Blinding of the outcome's assessment"),
    Item("9a", "Choice of predictors", ("predictor",)),
    Item(
        "9b",
        "Predictors: definition and measurement",
        ("predictor", "preprocessing"),
        "cameras and mydriasis of each source",
    ),
    Item("9c", "Assessors of subjective predictors", ("predictor",)),
    Item(
        "10", "Sample size, for development and evaluation", ("counts", "sizes"), "why it is enough"
    ),
    Item("11", "Missing data", ("excluded", "missing")),
    Item("12a", "Use of the data: partitions", ("partition", "sizes")),
    Item("12b", "Predictors in the analysis: scaling, transformation", ("preprocessing",)),
    Item(
        "12c",
        "Type of model, building, tuning, internal validation",
        ("model", "training", "selection"),
        "how the settings were chosen",
    ),
    Item("12d", "Heterogeneity between clusters: how handled", ("partition", "statistics")),
    Item(
        "12e", "Measures and plots of performance; comparison of models", ("measures", "statistics")
    ),
    Item("12f", "Updating (recalibration) after the evaluation", ("recalibration",)),
    Item("12g", "How predictions of the evaluation were computed", ("output", "code")),
    Item("13", "Class imbalance", ("balance",), "what was done about it, if anything, and why"),
    Item("14", "Fairness: approaches and rationale"),
    Item("15", "Output of the model, thresholds and their choice", ("output", "threshold")),
    Item(
        "16",
        "Differences between development and evaluation data",
        ("heterogeneous data",),
        "setting and eligibility",
    ),
    Item("17", "Ethical approval and consent"),
    Item("18a", "Funding and role of funders"),
    Item("18b", "Conflicts of interest"),
    Item("18c", "Protocol: where it can be read"),
    Item("18d", "Registration"),
    Item("18e", "Availability of the data", ("licences",), "how a reader gets access"),
    Item("18f", "Availability of the code", ("code",), "address of the repository"),
    Item("19", "Patient and public involvement"),
    Item(
        "20a", "Flow of participants, numbers with and without the outcome", ("counts", "excluded")
    ),
    Item(
        "20b",
        "Characteristics overall and per source",
        ("balance", "quality"),
        "age, sex, ethnicity and duration of diabetes",
    ),
    Item("20c", "Predictors in evaluation against development data", ("heterogeneous data",)),
    Item("21", "Participants and events in each analysis", ("sizes", "balance")),
    Item(
        "22",
        "Specification of the model, and access to it",
        ("model", "weights"),
        "where the trained model can be had",
    ),
    Item(
        "23a",
        "Performance with intervals, also in subgroups",
        ("performance", "referable", "calibration"),
        "demographic subgroups",
    ),
    Item("23b", "Heterogeneity of performance between clusters", ("heterogeneity",)),
    Item("24", "Results of updating", ("recalibration",)),
    Item("25", "Interpretation, in the light of earlier studies"),
    Item("26", "Limitations", ("limits", "deviations"), "limitations of design and population"),
    Item(
        "27a",
        "Use: poor or unavailable input",
        ("excluded", "quality"),
        "what a user must do with such an image",
    ),
    Item("27b", "Use: interaction and expertise required of users"),
    Item("27c", "Next steps of research, applicability"),
)

CLAIM = (
    Item("1", "Title or abstract names the AI technology", ("technology",), "the title"),
    Item("2", "Structured abstract"),
    Item("3", "Background, intended use and role"),
    Item("4", "Aims, objectives, hypotheses", ("goal",), "the hypothesis"),
    Item("5", "Prospective or retrospective", ("retrospective",)),
    Item("6", "Goal of the study", ("goal",)),
    Item("7", "Sources of data", ("sources",), "dates and setting"),
    Item("8", "Inclusion and exclusion", ("excluded",), "criteria of the original data sets"),
    Item("9", "Preprocessing", ("preprocessing",)),
    Item("10", "Selection of subsets of the data", ("subsets",)),
    Item("11", "De-identification", ("bare pixels",), "how the sources removed identities"),
    Item("12", "Missing data", ("excluded", "missing")),
    Item(
        "13", "Protocol of image acquisition", ("cameras",), "field of view, mydriasis, operators"
    ),
    Item("14", "Reference standard: definition", ("outcome",), "how each source was graded"),
    Item("15", "Reference standard: why this one"),
    Item("16", "Reference standard: who annotated"),
    Item("17", "Annotation of the test set", (), "graders and their number per image"),
    Item("18", "Variability between and within annotators"),
    Item("19", "Assignment to partitions", ("partition",)),
    Item("20", "Level at which partitions are disjoint", ("disjoint",)),
    Item("21", "Size of the test set, as intended", ("sizes",), "why it is enough"),
    Item("22", "Description of the model", ("model", "output")),
    Item("23", "Software", ("software",)),
    Item("24", "Initial values of the parameters", ("weights",)),
    Item("25", "Training", ("training",)),
    Item("26", "Selection of the final model", ("selection",)),
    Item("27", "Ensembles", ("ensemble",)),
    Item("28", "Measures of performance", ("measures",)),
    Item("29", "Statistics: significance and uncertainty", ("statistics",)),
    Item("30", "Robustness or sensitivity analysis", ("heterogeneity", "last weights")),
    Item("31", "Explainability", ("explanation",)),
    Item("32", "Evaluation on internal data", ("internal",)),
    Item("33", "Testing on external data", ("external",)),
    Item("34", "Registration of a clinical trial"),
    Item("35", "Numbers included and excluded", ("counts", "excluded")),
    Item(
        "36",
        "Demographic and clinical characteristics per partition",
        ("balance",),
        "age, sex, ethnicity, comorbidity",
    ),
    Item("37", "Performance and its uncertainty", ("performance",)),
    Item("38", "Diagnostic performance and its precision", ("referable",)),
    Item("39", "Failure analysis", ("failures",), "what the failures have in common"),
    Item("40", "Limitations", ("limits", "deviations"), "limitations of design and population"),
    Item("41", "Implications for practice"),
    Item("42", "Protocol and further technical detail", ("deviations", "code"), "the protocol"),
    Item("43", "Availability of software, model and data", ("code", "licences"), "addresses"),
    Item("44", "Funding and role of funders"),
)
