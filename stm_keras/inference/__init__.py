"""Judge scans with a trained model."""
