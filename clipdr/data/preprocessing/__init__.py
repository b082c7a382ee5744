"""Preprocessing: image files decoded, cropped to the fundus and packed as uint8 arrays."""
