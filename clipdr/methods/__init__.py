"""METHODS: the grading methods, in the order of the tables.

A new method is one module in this folder and one line here; its key is the module's name. The table holds names, so that
the study file is checked without importing torch and a job imports the one method that it runs.
"""

from importlib import import_module

from clipdr import DataError

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


def load(name: str) -> type:
    """Import the class of a method.

    Args:
        name: A key of METHODS.

    Raises:
        DataError: If the name is unknown.
    """
    if name not in METHODS:
        raise DataError(f"method {name!r} is unknown. Known methods: {', '.join(METHODS)}.")
    module, _, cls = METHODS[name].partition(":")
    return getattr(import_module(f"clipdr.methods.{module}"), cls)
