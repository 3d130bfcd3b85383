"""LRBench: measure learning-rate policies on a task, store the results, and recommend policies."""
