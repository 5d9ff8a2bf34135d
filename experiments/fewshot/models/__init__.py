"""Few-shot segmentation models: frozen backbones, their weight files, methods and losses."""
