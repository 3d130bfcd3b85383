"""Methods: each one is a controller of the learning rate, in its own file or folder."""
