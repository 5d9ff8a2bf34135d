"""Data of few-shot segmentation: readers, class index, protocols, episodes, transforms."""
