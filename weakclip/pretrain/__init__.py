"""Training of the two small networks that ship with the project and stand in for CLIP's and ImageNet's weights."""
