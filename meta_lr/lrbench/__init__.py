"""LRBench: which learning-rate policy for which task, measured and remembered."""
