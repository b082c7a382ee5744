"""Study configuration: checked study files, job settings, paths, source files; no torch."""
