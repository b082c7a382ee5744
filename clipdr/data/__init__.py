"""From image files to batches: domains, splits, leakage checks, preprocessing, augmentation and loading."""
