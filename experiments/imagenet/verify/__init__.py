"""Checks a copy of ImageNet. No torch."""
