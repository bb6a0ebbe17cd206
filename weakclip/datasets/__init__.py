"""Datasets of photos with image-level tags: the index all stages read, and the layouts it is made from."""
