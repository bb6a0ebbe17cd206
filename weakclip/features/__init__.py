"""Frozen image features: the views of a photo, and the HDF5 store that keeps what the encoder made of them."""
