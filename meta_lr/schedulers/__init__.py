"""Networks that map a training history to a rate, and the controller that runs them."""
