"""Eye tables: image, clinical text and structured data, packed and batched."""
