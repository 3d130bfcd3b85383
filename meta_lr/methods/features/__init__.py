"""Features of the training history: the inputs of a scheduler network."""
