"""MLR-SNet: a network reads the loss and gives the learning rate."""
