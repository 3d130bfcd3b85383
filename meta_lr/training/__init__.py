"""Training: the one loop, the drop-in scheduler, experiments and records."""
