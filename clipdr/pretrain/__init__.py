"""RET-CLIP (Du et al., MICCAI 2024): an image and a text encoder, pre-trained on both eyes of a patient and the report."""
