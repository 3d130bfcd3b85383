"""AutoLRS: Bayesian optimisation of the learning rate along the run."""
