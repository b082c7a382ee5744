"""METHODS: every way of grading, in the order of the tables. A new method is one module and one line here; its key is its module's name."""

from clipdr.methods.clip_dr import ClipDr
from clipdr.methods.coop import CoOp
from clipdr.methods.erm import Erm
from clipdr.methods.linear_probe import LinearProbe
from clipdr.methods.ordinal_clip import OrdinalClip
from clipdr.methods.zero_shot import ZeroShot

METHODS = {
    "zero_shot": ZeroShot,
    "linear_probe": LinearProbe,
    "coop": CoOp,
    "erm": Erm,
    "ordinal_clip": OrdinalClip,
    "clip_dr": ClipDr,
}
