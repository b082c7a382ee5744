"""Columns of predictions.parquet, scores.csv and averages, and the rule of selection for headlines.

A run folder holds one row of predictions per image, selection and split, and one row of scores per
metric, domain, selection and split. Averages are means of scores over seeds and held-out domains.

| column | dtype | in | meaning |
|---|---|---|---|
| protocol | str | all | dg, esdg, lodo_crossval or within |
| method | str | all | method or variant |
| held_out | str | all | what the run holds out; in averages also "average" over all of them |
| seed | int32 | predictions, scores | seed of the run |
| selection | str | all | rule of model selection: source_val, swad, last, loso, oracle |
| split | str | predictions, scores | val (source validation) or test |
| image | str | predictions | path of the image, as in the manifest |
| domain | str | predictions, scores | domain of the image(s); "pooled": all of the split |
| grade | int8 | predictions | true grade, 0..4 |
| logit_0 .. logit_4 | float32 | predictions | logits |
| p0 .. p4 | float64 | predictions | probabilities, sum 1 to 1e-6 |
| expected_grade | float64 | predictions | sum of k p_k, 0..4 |
| scale | float32 | predictions | multiplier of the cosine in the logits; NaN: method without text |
| stratum | str | scores | subgroup of the images; always "all" |
| metric | str | scores, averages | a name of `operating_point.MEASURES` |
| value | float64 | scores | the metric; NaN: undefined |
| mean | float64 | averages | mean of `value` over seeds and held-out domains |
| se | float64 | averages | standard error over seeds; NaN for one seed |
| n_seeds | int64 | averages | seeds averaged |
| low, high | float64 | scores, averages | 95 % interval over patients, test only; NaN: none |
| undefined | int64 | scores, averages | resamples in which the metric is undefined |
| n | int64 | scores, averages | images, each counted once |
| clusters | int64 | scores, averages | patients; images where a patient is unknown |
| unit | str | scores, averages | what was resampled: patient or image; in averages also mixed |
| n_domains | int64 | averages | held-out domains averaged |
| resamples | int64 | averages | resamples behind the interval |
"""

from collections.abc import Mapping
from typing import TypeVar

from clipdr import GRADES

Value = TypeVar("Value")

RUN = ["protocol", "method", "held_out", "seed"]
LOGITS = [f"logit_{k}" for k in range(len(GRADES))]
PROBABILITIES = [f"p{k}" for k in range(len(GRADES))]
# predictions.parquet
COLUMNS = [
    *RUN,
    *("selection", "split", "image", "domain", "grade"),
    *(*LOGITS, *PROBABILITIES, "expected_grade", "scale"),
]

# scores.csv
SCORES = [
    *RUN,
    *("selection", "split", "domain", "stratum", "metric"),
    *("value", "low", "high", "n", "clusters", "undefined", "unit"),
]
_TEXT = ["protocol", "method", "held_out", "selection", "split", "domain", "stratum"]
DTYPES = {
    **dict.fromkeys([*_TEXT, "metric", "unit"], "str"),
    **dict.fromkeys(["value", "low", "high"], "float64"),
    **dict.fromkeys(["n", "clusters", "undefined"], "int64"),
    "seed": "int32",
}

# evaluation.aggregate.average
AVERAGES = [
    *("protocol", "method", "held_out", "selection", "metric", "mean", "se", "n_seeds"),
    *("low", "high", "undefined", "n", "clusters", "unit", "n_domains", "resamples"),
]

# Values of `domain` and `held_out` that name no domain.
POOLED, AVERAGE = "pooled", "average"

# Rule of selection of the main tables. A run that averages its weights (SWAD; Cha et al., 2021)
# selects no checkpoint, so its rule replaces source validation there.
HEADLINE = "source_val"
_HEADLINE_RULES = (HEADLINE, "swad")


def headline_of(rule: str) -> str:
    """Return the rule under which a rule's rows are reported: source_val for swad, else itself."""
    return HEADLINE if rule in _HEADLINE_RULES else rule


def rules_of(selection: str) -> tuple[str, ...]:
    """Return the rules whose rows are reported under `selection`; the reverse of `headline_of`."""
    return _HEADLINE_RULES if selection == HEADLINE else (selection,)


def of_headline(by_rule: Mapping[str, Value]) -> Value | None:
    """Return the value of the headline's rule.

    Args:
        by_rule: {rule of selection: value} of one run.

    Returns:
        The value of source_val or swad, or None if there is neither.
    """
    return next((by_rule[rule] for rule in _HEADLINE_RULES if rule in by_rule), None)
