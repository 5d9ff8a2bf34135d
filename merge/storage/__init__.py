"""Files of an output folder: atomic writes, JSON, NFS, paths, locks, leftovers."""
