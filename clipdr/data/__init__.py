"""Data: domains, splits, leakage check, preprocessing, augmentation and loading."""
