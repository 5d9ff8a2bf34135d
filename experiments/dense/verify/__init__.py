"""Checks copies of VOC2012 and COCO for segmentation and detection. No torch."""
