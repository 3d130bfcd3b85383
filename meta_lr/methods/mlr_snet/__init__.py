"""MLR-SNet: a network that reads the loss and returns the learning rate."""
