"""Trained networks as ONNX files, one module each."""
