"""TODO"""

from clipdr import GRADES

RUN = ["protocol", "method", "held_out", "seed"]
LOGITS = [f"logit_{k}" for k in range(len(GRADES))]
PROBABILITIES = [f"p{k}" for k in range(len(GRADES))]
# `scale`: multiplier of the cosine in the logits (float32), NaN for methods without text
COLUMNS = [
    *RUN,
    "selection",
    "split",
    "image",
    "domain",
    "grade",
    *LOGITS,
    *PROBABILITIES,
    "expected_grade",
    "scale",
]


SCORES = [
    *RUN,
    "selection",
    "split",
    "domain",
    "stratum",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "clusters",
    "undefined",
    "unit",
]
DTYPES = {
    **dict.fromkeys(
        [
            "protocol",
            "method",
            "held_out",
            "selection",
            "split",
            "domain",
            "stratum",
            "metric",
            "unit",
        ],
        "str",
    ),
    **dict.fromkeys(["value", "low", "high"], "float64"),
    **dict.fromkeys(["n", "clusters", "undefined"], "int64"),
    "seed": "int32",
}
AVERAGES = [
    "protocol",
    "method",
    "held_out",
    "selection",
    "metric",
    "mean",
    "se",
    "n_seeds",
    "low",
    "high",
    "undefined",
]
AVERAGES += [
    "n",
    "clusters",
    "unit",
    "n_domains",
    "resamples",
]  # unit: "patient" | "image" | "mixed"
POOLED, AVERAGE, HEADLINE = "pooled", "average", "source_val"
AS_HEADLINE = {
    HEADLINE: (HEADLINE, "swad")
}  # a run that averages its weights has no other rule: SWAD's stands in the headline's place


def of_headline(found):
    """Of {rule of selection: anything} of one run, the headline's: source validation's or SWAD's; None if there is neither."""
    return next((found[rule] for rule in AS_HEADLINE[HEADLINE] if rule in found), None)
