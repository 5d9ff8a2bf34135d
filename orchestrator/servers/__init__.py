"""Hosts over ssh: checks, start, control, worker records."""
