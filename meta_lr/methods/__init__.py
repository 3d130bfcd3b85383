"""Methods: each a controller of the learning rate, in a file or folder of its own."""
