"""Few-shot episodes: protocols, test lists, sampling, transforms."""
