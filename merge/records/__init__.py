"""Records on disk: the sweep, attempts, results, their field types."""
