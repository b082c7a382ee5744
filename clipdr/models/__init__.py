"""Image and text encoders, their weights and prompts."""
