"""The models of each task, and their weight files."""
