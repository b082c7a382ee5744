"""DRGen (Atwany and Yaqub, 2022): Fishr's training, and weights averaged over the valley of the validation loss (clipdr.training.swad)."""

from clipdr.methods.fishr import Fishr


class DrGen(Fishr):
    average = "swad"
