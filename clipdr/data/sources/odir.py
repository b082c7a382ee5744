"""Diagnostic keywords of ODIR-5K: split into single keywords, and the DR grade that they state.

ODIR has one cell of keywords per eye in full_df.csv. It states no ICDR grade; the grade is derived
here and is not official.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# The first match wins. A DR keyword without a grade is -1 (missing); no DR keyword is grade 0.
GRADES = (
    (r"\bmild non ?proliferative", 1),
    (r"\bmoderate non ?proliferative", 2),
    (r"\bsevere non ?proliferative", 3),
    (r"\bproliferative (diabetic )?retinopathy", 4),
    (r"diabetic retinopathy", -1),
)


def keywords(cell: str) -> list[str]:
    """Split a cell into keywords.

    Args:
        cell: Keywords separated by commas, also full-width commas (U+FF0C).

    Returns:
        The keywords in their order, with white space collapsed and empty ones removed.
    """
    return [" ".join(word.split()) for word in re.split("[,\uff0c]", cell) if word.strip()]


def stated_grade(words: Iterable[str]) -> int:
    """Derive the DR grade that the keywords of one eye state.

    Args:
        words: Keywords of one eye, in any case.

    Returns:
        Grade 0..4, or -1 where the keywords name diabetic retinopathy without a grade.
    """
    lower = [word.lower() for word in words]
    for pattern, grade in GRADES:
        if any(re.search(pattern, word) for word in lower):
            return grade
    return 0
