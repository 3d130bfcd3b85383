"""`ControlledLR`, the scheduler for your own training loops."""
