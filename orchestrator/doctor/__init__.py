"""`replicate doctor`: checks the output folder, its hosts and the GPUs before a sweep."""
