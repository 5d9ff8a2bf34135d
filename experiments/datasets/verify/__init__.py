"""Checks a copy of a data set. No torch."""
