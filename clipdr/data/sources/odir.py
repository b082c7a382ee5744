"""ODIR-5K's diagnostic keywords (one cell of full_df.csv per eye): split into words, and the DR grade that they name.

The grade is derived here and is no official ICDR grade: ODIR states none.
"""

import re

# first match wins; a DR word without a grade is -1 (missing), no DR word is grade 0
GRADES = (
    (r"\bmild non ?proliferative", 1),
    (r"\bmoderate non ?proliferative", 2),
    (r"\bsevere non ?proliferative", 3),
    (r"\bproliferative (diabetic )?retinopathy", 4),
    (r"diabetic retinopathy", -1),
)


def keywords(cell):
    """The keywords of a cell in their order, separated by commas, also full-width ones (U+FF0C); white space collapsed."""
    return [" ".join(word.split()) for word in re.split("[,\uff0c]", cell) if word.strip()]


def stated_grade(words):
    """Grade that some keywords of one eye name: 0..4, or -1 where they say diabetic retinopathy without a grade."""
    for pattern, value in GRADES:
        if any(re.search(pattern, word.lower()) for word in words):
            return value
    return 0
