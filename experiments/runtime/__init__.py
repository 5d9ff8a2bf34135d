"""What every experiment needs: process groups, seeds, samplers, checkpoints, events, resume."""
