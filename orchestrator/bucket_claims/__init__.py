"""Claims, plan and states where hosts share only a bucket."""
