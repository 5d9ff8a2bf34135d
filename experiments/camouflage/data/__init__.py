"""COD10K on disk: finding it and reading it."""
