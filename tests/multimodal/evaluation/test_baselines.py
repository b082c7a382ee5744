"""Rule that decides whether several modalities help."""

import numpy as np

from clipdr.multimodal.evaluation import baselines


def test_modalities_help_only_if_all_three_conditions_hold():
    """Better than the image, better than structured data, and shuffled rows lose the gain."""
    rng, index = np.random.default_rng(0), baselines.MEASURES.index("qwk")

    def draws(mean):
        values = np.zeros((len(baselines.MEASURES), 400))
        values[index] = mean + rng.normal(0, 0.01, 400)
        return values

    def helps(means):
        by_method = {name: draws(mean) for name, mean in means.items()}
        return baselines.multimodal_gain(by_method)["helps"]

    means = {
        "multimodal": 0.8,
        "image_only": 0.6,
        "structured_gb": 0.5,
        "missingness": 0.1,
        "shuffled_at_test": 0.55,
    }
    assert helps(means)
    for change in ({"image_only": 0.8}, {"structured_gb": 0.81}, {"shuffled_at_test": 0.75}):
        assert not helps(means | change), change
