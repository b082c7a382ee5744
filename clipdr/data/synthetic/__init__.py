"""Synthetic patients and fundus images of several hospitals, with known findings."""
