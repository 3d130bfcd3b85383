"""The self-tuning schedule: a network and an integrator that find the learning rate."""
