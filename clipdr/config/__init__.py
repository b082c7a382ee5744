"""What a study asks for: the typed study file, job settings, paths and source files. Imports neither torch nor pandas."""
