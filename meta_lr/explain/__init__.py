"""What a checkpoint does: a schedule of the loss, or one that finds its own learning rate."""
