"""Bilevel training: meta-training of the network that chooses the learning rate."""
