"""The record of a run: rows of several kinds in one file, with one writer and one reader."""
