"""LRBench's 34 policies: one formula, their text form, and lists that change at plateaus."""
