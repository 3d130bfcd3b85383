"""AutoDrop: the learning rate drops when the angular velocity of the weights saturates."""
