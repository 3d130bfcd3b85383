"""Bilevel training: learning the network that gives the rate."""
