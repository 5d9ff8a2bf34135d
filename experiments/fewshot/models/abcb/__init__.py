"""Method `abcb`: query prediction, support modulation and information cleansing, iterated.

Equation numbers are those of "Addressing Background Context Bias in Few-Shot Segmentation through
Iterative Modulation" (CVPR 2024). docs/abcb.md says what the paper states and what is inferred.

Shapes: B episodes, K shots, N = h * w feature cells of the query, M tokens of a padded set, C
channels, L histogram bins.
"""
