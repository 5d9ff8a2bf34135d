"""Saliency prediction: where people look in images of MIT1003, as a probability density."""
