"""Camouflaged object segmentation: a decoder with a sparse mixture of experts, on COD10K."""
