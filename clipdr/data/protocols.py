"""TODO"""

HELD_OUT = {  # protocol (clipdr.data.splits.PROTOCOLS) -> how a run's held_out is named after a domain of the study
    "dg": "{}",
    "esdg": "all_but_{}",
    "lodo_crossval": "{}",
    "within": "{}",
}


SEVERAL_SOURCES = ("dg", "lodo_crossval")  # protocols that train on more than one domain
