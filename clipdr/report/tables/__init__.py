"""Tables of the report, written as JSON, CSV, Markdown, LaTeX and HTML."""
