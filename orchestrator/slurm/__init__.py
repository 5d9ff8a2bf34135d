"""SLURM: arrays, jobs, tasks, the queue."""
