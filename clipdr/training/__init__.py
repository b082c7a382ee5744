"""One run: training loop, checkpoints, provenance, model selection and hyper-parameter search."""
