"""Labels of metrics, protocols and rules of model selection: titles, units, decimals and meanings.

Keys are the names in scores.csv.
"""

from __future__ import annotations

from dataclasses import dataclass

from clipdr import GRADES


@dataclass(frozen=True)
class Style:
    """How a metric is printed.

    Attributes:
        title: Head of a column.
        factor: Multiplier of the value; 100 prints percent.
        decimals: Digits after the point.
        more_is_better: Direction of the ranking; None for a metric that is not ranked. Sensitivity
            and specificity are not ranked because each can be raised at the cost of the other; an
            oracle is not ranked either.
        meaning: Name in full, with the unit.
    """

    title: str
    factor: int
    decimals: int
    more_is_better: bool | None
    meaning: str


HEADLINE_STYLES = {
    "auc": Style("AUC", 100, 1, True, "AUC (%, macro one-versus-one)"),
    "accuracy": Style("ACC", 100, 1, True, "Accuracy (%)"),
    "macro_f1": Style("F1", 100, 1, True, "Macro-F1 (%)"),
    "qwk": Style("QWK", 100, 1, True, "Quadratic weighted kappa (%)"),
    "mae": Style("MAE", 1, 3, False, "Mean absolute error (grades; lower is better)"),
}
AT_THRESHOLD = "for referable DR at the threshold frozen on source validation (%)"
STYLES = {
    **HEADLINE_STYLES,
    **{
        f"recall_{grade}": Style(str(grade), 100, 1, True, f"recall of grade {grade} (%)")
        for grade in range(len(GRADES))
    },
    "referable_auc": Style("AUC", 100, 1, True, "AUC of referable DR (%)"),
    "sensitivity": Style("Sensitivity", 100, 1, None, f"Sensitivity {AT_THRESHOLD}"),
    "specificity": Style("Specificity", 100, 1, None, f"Specificity {AT_THRESHOLD}"),
    "sensitivity_at_spec90": Style(
        "Sens. at 90 % spec. (oracle)", 100, 1, None, "sensitivity at 90 % specificity (%)"
    ),
    "rps": Style("RPS", 100, 2, False, "ranked probability score (x 100; lower is better)"),
    **{
        f"ece_{k}": Style(
            f"ECE ≥{k}", 100, 1, False, f"expected calibration error of grade >= {k} (%)"
        )
        for k in range(1, len(GRADES))
    },
    **{
        f"brier_{k}": Style(f"Brier ≥{k}", 100, 1, False, f"Brier score of grade >= {k} (x 100)")
        for k in range(1, len(GRADES))
    },
}
BY_DOMAIN = (*HEADLINE_STYLES, "sensitivity", "specificity")  # with a table by held-out domain
SELECTIONS = {
    "source_val": "checkpoint with the highest AUC on the pooled source validation sets; "
    "the held-out domain is not used",
    "swad": "weights averaged over the valley of the source validation loss (Cha et al., 2021); "
    "no checkpoint is selected",
    "last": "final weights",
    "loso": "checkpoint with the highest mean AUC when each source domain in turn is left out of "
    "training and validated on",
    "oracle": "UPPER BOUND, never a result: checkpoint with the highest AUC on the held-out test "
    "images; uses test grades",
}
PROTOCOLS = {  # what a column of a table by domain is, and what the mean is over
    "dg": ("on each held-out domain", "held-out domains"),
    "esdg": (
        "trained on one domain, the column, and tested on the pool of all others",
        "source domains",
    ),
    "lodo_crossval": (
        "on the crossval files only of each held-out domain, as the released CLIP-DR tests "
        "(not GDRBench's DG test)",
        "held-out domains, crossval files only (not GDRBench's DG test)",
    ),
    "within": (
        "trained on a domain's train files and tested on its crossval files "
        "(upper reference without domain shift)",
        "domains, each trained and tested inside itself (upper reference)",
    ),
}
RULES = {  # rule of selection -> head of its column
    "source_val": "source val",
    "loso": "leave one source out",
    "last": "last",
    "oracle": "oracle (upper bound)",
}
