"""Training of one run: loop, state, checkpoint, provenance, model selection and search."""
