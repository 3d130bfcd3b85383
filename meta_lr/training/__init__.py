"""Training: the training loop, its steps, experiments and saved states."""
