"""Use of a trained model: class activation maps."""
