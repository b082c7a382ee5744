"""Files on disk: written whole, hashed and verified. The ground floor of the package; imports nothing but its constants."""
