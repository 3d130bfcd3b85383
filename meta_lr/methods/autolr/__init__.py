"""AutoLR (LRTuner) and similar methods: they measure the loss along the update direction."""
