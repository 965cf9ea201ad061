"""Who says which of two responses is the better one: `dpo-lab evaluate RUN judge=NAME`."""
