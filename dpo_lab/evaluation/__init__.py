"""How good answers are, where the data knows the right ones: classes and spans."""
