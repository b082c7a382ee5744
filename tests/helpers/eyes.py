"""Findings of 80 synthetic eyes of each grade."""

import numpy as np

from clipdr.data.synthetic.findings import sample_findings

EXAMPLES = {
    grade: [sample_findings(grade, np.random.default_rng([grade, k])) for k in range(1, 81)]
    for grade in range(5)
}
