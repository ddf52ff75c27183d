"""Many runs of one config: a grid or a search of settings, several seeds, on SLURM or here."""
