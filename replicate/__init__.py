"""The face: the `replicate` command, studies, published numbers, reports."""
