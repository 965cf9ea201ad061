"""What every loss is, read from its docstring, its signature and itself: nothing here lists losses or their knobs.

`entry` reads, `curves` computes what a picture shows, `page` writes ``docs/losses.md``. A loss is found by its file in
``conf/loss``.

The JSON of a loss (``dpo-lab losses --json``) is an object; every key is always there:

| key | value |
|---|---|
| `name` | the word of ``loss=NAME`` |
| `kind` | "pairs with a reference", "pairs without a reference", "single labels", "lists", "likelihood and mixtures" |
| `summary` | one sentence |
| `formula` | first line of the docstring |
| `notes` | list of paragraphs: where it comes from, how it behaves, where published code differs |
| `paper` | arXiv number, or null |
| `equation` | number of the equation in that paper, or null |
| `further_papers` | list of further arXiv numbers |
| `needs` | list of ingredients, in a fixed order |
| `whole_batch` | true where items are compared, so that all of an optimizer step are seen at once |
| `arguments` | list of objects, in the order of the signature |
| `returns` | what the loss gives: units, items, reward |

An argument has `name`; `type` ("number", "whole number", "true or false", "text", "choice", "loss" or "losses");
`nullable`; `default`; `range` in interval notation, or null ("(0, inf)" leaves 0 out, "[0, 1]" holds both ends);
`choices`, or null; `meaning`.
"""
