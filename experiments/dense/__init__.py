"""Segmentation, detection and classification with torchvision's models."""
