"""COD10K on disk: finding it, reading it, and a small generated set in the same layout."""
