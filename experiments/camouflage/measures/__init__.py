"""The measures of camouflaged object segmentation, each against the definition of its paper."""
