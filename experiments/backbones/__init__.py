"""Backbones that several experiments share, and their weights."""
