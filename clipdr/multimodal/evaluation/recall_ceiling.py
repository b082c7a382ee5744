"""The most that strict recall can reach, by what a text says. Input: an eye table; output: rows. No model, no photograph."""

from clipdr.evaluation.retrieval import K, ceiling, contents
from clipdr.multimodal.data import narrative

CONTENTS = {  # set of columns -> f(eye table) -> one value per eye; what the ceilings are computed of
    "grades": lambda eyes: zip(eyes["icdr"], eyes["sdrg"], strict=True),
    "keywords": lambda eyes: eyes["keywords"],
    "description": lambda eyes: eyes["description"],
    "findings": lambda eyes: narrative.content(eyes, "findings"),
    "findings + grades": lambda eyes: narrative.content(eyes, "findings", True),
    "history": lambda eyes: narrative.content(eyes, "history"),
    "history + findings": lambda eyes: narrative.content(eyes, "full"),
    "keywords + age, sex, eye": lambda eyes: zip(
        eyes["keywords"], eyes["age"].fillna(-1), eyes["sex"], eyes["eye"], strict=True
    ),
    "every column but the names": lambda eyes: map(
        tuple,
        eyes.drop(columns=["image", "row", "patient", "split", "dataset", "version"])
        .fillna(-1)
        .to_numpy(),
    ),
}


def ceilings(eyes):
    """Rows content, part, n, distinct, ceiling_1/5/10: the most that strict recall can reach, for any scorer of (text, photograph)."""
    rows = []
    parts = {"all": eyes} | (
        {"test": eyes[eyes["split"] == "test"]} if (eyes["split"] == "test").any() else {}
    )
    for name, of in CONTENTS.items():
        for part, some in parts.items():
            said = contents(of(some))
            if said.max() == 0:
                continue
            rows.append(
                {"content": name, "part": part, "n": len(some), "distinct": int(said.max()) + 1}
            )
            rows[-1] |= {f"ceiling_{k}": ceiling(said, k) for k in K}
    return rows
