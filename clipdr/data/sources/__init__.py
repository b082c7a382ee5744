"""Download data sets and read their published label files."""
