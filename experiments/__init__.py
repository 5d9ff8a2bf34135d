"""The data plane: trainers, started as processes; the only package that imports torch."""
