"""Names of the evaluation protocols and of what each one holds out.

The module imports nothing, so that the configuration can read the names without pandas. The
module clipdr.data.splits makes the splits.

- `dg`: train on all domains but one, test on the whole held-out domain (GDRBench's DG; Che et al.,
  2023).
- `esdg`: train on one domain, test on the whole of all others (GDRBench's ESDG).
- `lodo_crossval`: as `dg`, but tested only on the held-out domain's crossval files (the released
  CLIP-DR; Yu et al., 2024).
- `within`: train and test inside one domain, as an upper reference.
"""

HELD_OUT = {
    "dg": "{}",
    "esdg": "all_but_{}",
    "lodo_crossval": "{}",
    "within": "{}",
}
"""Protocol -> pattern that names a run's held-out test set after a domain of the study."""

SEVERAL_SOURCES = ("dg", "lodo_crossval")
"""Protocols that train on more than one domain."""
