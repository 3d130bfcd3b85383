"""AutoLR (LRTuner) and its relatives: the loss is probed along the step."""
