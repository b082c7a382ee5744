"""Class activation maps: one photograph of each grade, and where each method looks for that grade in it.

Input: photographs, maps and their numbers (clipdr.inference.grad_cam). Output: rows photograph and methods, columns grades; the checks beside each method.
"""

import numpy as np

from clipdr import GRADES, DataError
from clipdr.report.figures.style import WIDE, style, suptitle

TITLE = "Class activation maps"
CAPTION = (
    "Grad-CAM of the logit of the true grade on the same images, one per grade, with the "
    "map of random weights as a check."
)
SECTION = "maps"
PER_IMAGE = True
COUNTED = False
USES_METHODS = True

SHADES = {"cmap": "inferno", "alpha": 0.5, "vmin": 0, "vmax": 1}


def read(inputs):
    """Refuse: the maps need trained models, so the command `clipdr cam` makes this figure.

    Raises:
        DataError: Always.
    """
    raise DataError("figure cam: it needs trained models. Run `clipdr cam`.")


def plot(rows, images, maps, numbers):
    """The first photograph of each grade (in the order of names) and, over it, the map of its true grade, each map from 0 to 1 by itself.

    rows    : manifest rows (N);  images : (N, 3, S, S) in [0, 1];  maps : {method: cam.Maps};  numbers : as cam.measure
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    grades = rows["grade"].to_numpy()
    shown = [int(np.flatnonzero(grades == g)[0]) for g in range(len(GRADES)) if (grades == g).any()]
    with style():
        figure = Figure(figsize=(WIDE, 1.2 * (1 + len(maps)) + 0.7), layout="constrained")
        axes = figure.subplots(1 + len(maps), len(shown), squeeze=False)
        for axis in axes.flat:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
            axis.set_frame_on(False)
        for axis, place in zip(axes[0], shown, strict=True):
            axis.imshow(images[place].transpose(1, 2, 0))
            axis.set_title(f"grade {grades[place]}\n{GRADES[grades[place]]}")
        axes[0, 0].set_ylabel("photograph")
        for line, (method, found) in zip(axes[1:], maps.items(), strict=True):
            for axis, place in zip(line, shown, strict=True):
                one = found.trained[place]
                axis.imshow(images[place].transpose(1, 2, 0))
                if np.ptp(one) > 0:
                    axis.imshow((one - one.min()) / np.ptp(one), **SHADES)
                else:  # nothing in the last map speaks for this grade
                    axis.set_xlabel("no map")
            line[0].set_ylabel(f"{method}\n{_checks(numbers[numbers['method'] == method])}")
        bar = figure.colorbar(
            ScalarMappable(Normalize(0, 1), SHADES["cmap"]),
            ax=axes[1:],
            shrink=0.6,
            aspect=25,
            pad=0.01,
        )
        bar.set_label("Grad-CAM (0 to 1)")
        bar.outline.set_visible(False)
        domain = rows["domain"].iloc[0]
        suptitle(
            figure,
            [domain],
            f"where the true grade is seen, test photographs of {domain}; numbers: means of {len(rows)}",
        )
    return figure


def _checks(numbers):
    """The two checks in words: likeness to maps of random weights; share of the map on lesions beside the lesions' share of the retina."""
    words = f"correlation with\nrandom weights {_mean(numbers['rank_correlation'], '{:.2f}')}"
    if numbers["energy"].notna().any():
        words += f"\non lesions {_mean(100 * numbers['energy'], '{:.0f}')} %\n(area {_mean(100 * numbers['area'], '{:.0f}')} %)"
    return words


def _mean(values, form):
    return form.format(values.mean()) if values.notna().any() else "n/a"
