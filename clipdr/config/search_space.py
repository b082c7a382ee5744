"""Hyper-parameter spaces: values that the search tries per method beside the study's setting."""

# Multiples of the study's learning rate, tried for every method.
LR_FACTORS = (1 / 3, 1, 3)
WEIGHT_DECAY = {"training.weight_decay": (5e-5, 5e-4, 5e-3)}
# method -> one parameter of its own and its values. Methods without training steps have no space.
SPACES = {
    "erm": WEIGHT_DECAY,
    "mixup": {"alpha": (0.2, 1.0)},
    "mixstyle": {"p": (0.3, 0.5, 0.8)},
    "green": WEIGHT_DECAY,
    "cabnet": WEIGHT_DECAY,
    "ddaig": {"strength": (0.1, 0.3, 0.5)},
    "ats": {"feature_weight": (0.3, 1.0, 3.0)},
    "fishr": {"weight": (100.0, 1000.0, 10000.0)},
    "mdlt": {"boda_weight": (0.03, 0.1, 0.3)},
    "drgen": {"training.rise": (1.2, 1.3)},
    "gdrnet": {"temperature": (0.07, 0.1, 0.3)},
    "corn": WEIGHT_DECAY,
    "coop": {"context": (4, 8, 16)},
    "coop_lvt": WEIGHT_DECAY,
    "clip_finetune": WEIGHT_DECAY,
    "ordinal_clip": {"kl_weight": (0.3, 1.0, 3.0)},
    "clip_dr": {"rank_weight": (0.3, 1.0, 3.0)},
    "clip_dr_plus": {"pace": (0.03, 0.1, 0.3)},
}
