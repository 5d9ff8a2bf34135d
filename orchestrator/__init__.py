"""The control plane: study, grid, shards, claims, attempts, executors."""
