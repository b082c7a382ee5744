"""Grading methods: the table METHODS in the order of the tables of the report.

A new method is one module in this folder and one line here. Its key is the name of the module. The
table holds names only, so that a study file is checked without importing torch, and a job imports
only the method that it runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from clipdr import DataError

if TYPE_CHECKING:
    from clipdr.methods.base import Method

METHODS = {
    "majority": "majority:Majority",
    "zero_shot": "zero_shot:ZeroShot",
    "linear_probe": "linear_probe:LinearProbe",
    "coop": "coop:CoOp",
    "erm": "erm:Erm",
    "mixup": "mixup:Mixup",
    "mixstyle": "mixstyle:MixStyle",
    "green": "green:Green",
    "cabnet": "cabnet:CabNet",
    "ddaig": "ddaig:Ddaig",
    "ats": "ats:Ats",
    "fishr": "fishr:Fishr",
    "mdlt": "mdlt:Mdlt",
    "drgen": "drgen:DrGen",
    "gdrnet": "gdrnet:GdrNet",
    "corn": "corn:Corn",
    "clip_finetune": "clip_finetune:ClipFinetune",
    "coop_lvt": "coop_lvt:CoOpLvt",
    "ordinal_clip": "ordinal_clip:OrdinalClip",
    "clip_dr": "clip_dr:ClipDr",
    "clip_dr_plus": "clip_dr_plus:ClipDrPlus",
}


def load(name: str) -> type[Method]:
    """Import the class of a method.

    Args:
        name: A key of METHODS.

    Returns:
        The class, a subclass of `clipdr.methods.base.Method`.

    Raises:
        DataError: If the name is unknown.
    """
    if name not in METHODS:
        raise DataError(f"method {name!r} is unknown. Known methods: {', '.join(METHODS)}.")
    module, _, cls = METHODS[name].partition(":")
    return getattr(import_module(f"clipdr.methods.{module}"), cls)
