"""Knowledge-enhanced multimodal transformer: image, clinical text and structured data of an eye."""
