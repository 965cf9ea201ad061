"""What a run has learnt, to look at: token by token, and in which order. It reads numbers and writes pages."""
