"""The report of a sweep: content made once, then written as Markdown, LaTeX, CSV and HTML."""
