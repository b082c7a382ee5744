"""What metrics, protocols and rules of selection are called in print: titles, units, decimals, whether more is better, and meanings.

Input: their names, as in scores.csv. Output: tables of words.
"""

from dataclasses import dataclass

from clipdr import GRADES


@dataclass(frozen=True)
class Style:
    """How a metric is printed: title, factor (100 = percent), decimals, whether more is better, and its name in full.

    Sensitivity without specificity is no merit, so neither is ranked; nor is an oracle.
    """

    title: str
    factor: int
    decimals: int
    more_is_better: bool | None  # None: not ranked
    meaning: str


STYLES = {
    "auc": Style("AUC", 100, 1, True, "AUC (%, macro one-versus-one)"),
    "accuracy": Style("ACC", 100, 1, True, "Accuracy (%)"),
    "macro_f1": Style("F1", 100, 1, True, "Macro-F1 (%)"),
    "qwk": Style("QWK", 100, 1, True, "Quadratic weighted kappa (%)"),
    "mae": Style("MAE", 1, 3, False, "Mean absolute error (grades; lower is better)"),
}
BY_DOMAIN = (*STYLES, "sensitivity", "specificity")  # metrics with a table by held-out domain
STYLES |= {
    f"recall_{g}": Style(str(g), 100, 1, True, f"recall of grade {g} (%)")
    for g in range(len(GRADES))
}
STYLES |= {
    "referable_auc": Style("AUC", 100, 1, True, "AUC of referable DR (%)"),
    "sensitivity": Style(
        "Sensitivity",
        100,
        1,
        None,
        "Sensitivity for referable DR at the threshold frozen on source validation (%)",
    ),
    "specificity": Style(
        "Specificity",
        100,
        1,
        None,
        "Specificity for referable DR at the threshold frozen on source validation (%)",
    ),
    "sensitivity_at_spec90": Style(
        "Sens. at 90 % spec. (oracle)", 100, 1, None, "sensitivity at 90 % specificity (%)"
    ),
    "rps": Style("RPS", 100, 2, False, "ranked probability score (x 100; lower is better)"),
}
for _k in range(1, len(GRADES)):
    STYLES[f"ece_{_k}"] = Style(
        f"ECE ≥{_k}", 100, 1, False, f"expected calibration error of grade >= {_k} (%)"
    )
    STYLES[f"brier_{_k}"] = Style(
        f"Brier ≥{_k}", 100, 1, False, f"Brier score of grade >= {_k} (x 100)"
    )
SELECTIONS = {
    "source_val": "checkpoint with the highest AUC on the pooled source validation sets; the held-out domain is never looked at",
    "swad": "weights averaged over the valley of the source validation loss (Cha et al., 2021); no checkpoint is selected",
    "last": "final weights",
    "loso": "checkpoint with the highest mean AUC when each source domain in turn is left out of training and validated on",
    "oracle": "CHEATING: checkpoint with the highest AUC on the held-out test images; uses test grades, a bound and never a result",
}
PROTOCOLS = {  # what a column of a table by domain is, and what the mean is over
    "dg": ("on each held-out domain", "held-out domains"),
    "esdg": (
        "trained on one domain, the column, and tested on the pool of all others",
        "source domains",
    ),
    "lodo_crossval": (
        "on the crossval files only of each held-out domain, as the released CLIP-DR tests (not GDRBench's DG test)",
        "held-out domains, crossval files only (not GDRBench's DG test)",
    ),
    "within": (
        "trained on a domain's train files and tested on its crossval files (upper reference: nothing is generalised to)",
        "domains, each trained and tested inside itself (upper reference)",
    ),
}
RULES = {
    "source_val": "source val",
    "loso": "leave one source out",
    "last": "last",
    "oracle": "oracle (cheats)",
}
