"""Evaluation of pre-trained encoders: retrieval, zero-shot, few-shot, probes and fine-tuning."""
