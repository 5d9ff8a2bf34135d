"""The truth on disk: paths, records, atomic writes, locks, combination, statistics."""
