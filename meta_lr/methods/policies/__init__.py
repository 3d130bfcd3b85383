"""LRBench's 34 policies: one formula, their text form, and policy changes at plateaus."""
