"""Few-shot segmentation: episodes, protocols, methods, the mIoU of the field."""
