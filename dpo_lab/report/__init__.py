"""Pictures and tables of runs, made from run folders alone. Nothing here imports torch."""
