"""Data: a row of a file becomes an `Example`, examples become token ids, token ids become windows of one step.

The floors of this room, lowest first: `reasons` (what can be wrong), `report`, `errors`, `excerpt`; `judgement` (what
was judged of an example), `view` (what an objective asks for); `sniff`, `read_json`, `read_tables`, `read_files`,
`read_hub` (rows of a file); `suggest`, `row`, `text_notes`, `transcript`, `messages`, `rank`, `split_prompt`,
`read_row` (one row, one example); `split`, `repeats`, `near_duplicates`, `preparation` (declared
steps, as a run gives them), `reader`; `check_view` (whether the two meet); `files`, `reviews`
(the knobs); `fit_length`, `encoded`, `encode_source`, `token_cache` (token space); `order`, `batch`, `windows` (what a
step sees).

Nothing is imported here: a function that bore the name of its module would hide the module from ``_target_``.
"""
