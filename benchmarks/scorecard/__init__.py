"""Compare learned schedules with tuned ones, on families and tasks that nothing was chosen on."""
