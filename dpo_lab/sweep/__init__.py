"""Many runs of one command: a process each, a folder that tells what became of them, and nothing lost when one dies."""
