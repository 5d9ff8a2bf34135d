"""ImageNet classification: ResNets, progressive resizing, a final FixRes stage."""
