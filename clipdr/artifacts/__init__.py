"""Files on disk, written whole, hashed and verified.

This is the ground floor of the package. It imports nothing of the package but its constants.
"""
