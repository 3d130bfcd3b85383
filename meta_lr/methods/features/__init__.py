"""What a scheduler network reads of the training history."""
