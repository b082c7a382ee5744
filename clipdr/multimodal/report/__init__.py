"""Tables, figures and report section of the multimodal system."""
