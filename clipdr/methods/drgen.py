"""DRGen (Atwany and Yaqub, 2022): training of Fishr, then averaged weights (SWAD)."""

from clipdr.methods.fishr import Fishr


class DrGen(Fishr):
    """Fishr with weights averaged over the valley of the validation loss.

    The average is SWAD (`clipdr.training.swad`). Loss and arguments are those of `Fishr`. Like it,
    the method is degenerate on one source domain.
    """

    average = "swad"
