"""Verdicts line by line, and exported models, with numpy and onnxruntime alone."""
