"""What the terminal shows: tables, live lines, forecasts, servers."""
