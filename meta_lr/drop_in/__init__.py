"""`ControlledLR`, the scheduler for training loops of your own."""
