"""The life of a run: claims, heartbeat, requests, commit, verdict, causes, retries, states."""
