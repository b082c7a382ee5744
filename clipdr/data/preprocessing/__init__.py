"""Image file to square uint8 array: decoding, fundus detection, cropping and packing."""
