"""The WeakCLIP network: what is trained on top of the frozen CLIP."""
