"""The networks that are retrained on masks, DeepLabV3+ and DeepLabV1 with ResNet38: their training and their inference."""
