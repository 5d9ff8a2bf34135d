"""The `replicate` command: verbs, flags, exit codes."""
