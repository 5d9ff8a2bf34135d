"""The local executor: runs, attempts and events on this machine."""
