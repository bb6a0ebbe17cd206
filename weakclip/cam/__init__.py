"""Class activation maps from image-level tags, and the seeds made of them."""
