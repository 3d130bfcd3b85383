"""Analysis of checkpoints: schedules of the loss, and schedules that find their learning rate."""
