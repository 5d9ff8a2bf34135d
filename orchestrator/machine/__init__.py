"""This host: processes, the guard, devices, nvidia-smi, signals, launch, environment."""
