"""The baseline without a network: spectra of a scan, boosted trees, logistic regression."""
