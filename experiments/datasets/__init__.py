"""Data sets that several experiments share."""
