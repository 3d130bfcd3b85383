"""The command line: the only place that knows Hydra and wandb, draws progress and prints."""
