"""Data sources: download of public datasets, and readers of their published label files."""
