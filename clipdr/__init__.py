"""CLIP-style grading of diabetic retinopathy, from fundus images to the tables of a paper."""

__version__ = "0.1.0"

# The International Clinical Diabetic Retinopathy scale (Wilkinson et al., 2003); index = grade.
GRADES = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")
REFERABLE = 2  # referable DR: grade >= 2


class DataError(ValueError):
    """Bad input.

    The message is one line that states what is wrong, where, and what to do. The command line
    prints it and exits with status 2.
    """
