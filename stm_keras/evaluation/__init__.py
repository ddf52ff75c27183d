"""Labels and probabilities in, numbers and pictures out."""
