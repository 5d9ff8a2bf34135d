"""The frozen plan: selection, shards, balance, durations, forecast, code version, snapshot."""
