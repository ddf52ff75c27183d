"""Fit a model and keep everything about it."""
