"""Data: a row of a file becomes an `Example`, examples become token ids, token ids become windows of one step.

The floors of this room, lowest first: `report` and `errors`; `read_files`, `read_hub`, `transcript`, `messages`,
`read_row` (one row, one example); `split`; `files` (the knobs); `fit_length`, `encoded`, `token_cache` (token space);
`order`, `windows` (what a step sees).

Nothing is imported here: a function that bore the name of its module would hide the module from ``_target_``.
"""
