"""Retrieval and grading of the multimodal model, baselines, upper bounds and sanity checks."""
