"""Scheduler networks: an MLP and MLR-SNet's LSTM."""
