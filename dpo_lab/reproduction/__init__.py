"""Runs made again: what is different now, whether the numbers are the same, and why not."""
