"""The segmentation network that is retrained on masks: DeepLabV3+, its training and its inference."""
