"""RET-CLIP: contrastive pre-training on both eyes of a patient and the report (Du et al., 2024)."""
