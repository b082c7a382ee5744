"""Patients tables of pre-training and their batches."""
