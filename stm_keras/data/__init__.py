"""Scans with labels: read, split, check and prepare them."""
