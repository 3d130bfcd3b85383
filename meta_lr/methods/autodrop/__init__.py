"""AutoDrop: the learning rate drops where the angular velocity of the weights saturates."""
