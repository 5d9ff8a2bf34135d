"""Downloads archives of data sets, checks and unpacks them. No torch."""
