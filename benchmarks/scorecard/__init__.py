"""A learned schedule against tuned ones, on families and tasks that nothing was chosen on."""
