"""What every loss is, read from its docstring, its signature and itself: nothing here lists losses or their knobs.

`entry` reads, `curves` computes what a picture shows, `page` writes ``docs/losses.md``. A loss is found by its file in
``conf/loss``; the sets of arguments of other libraries are the files one folder below.

The JSON of a loss (``dpo-lab losses --json``, or ``--json NAME`` for one) is an object; every key is always there:

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
| `modifiers` | list of arguments of ``loss=modified`` that act on it; empty where it takes none |
| `arguments` | list of objects, in the order of the signature |
| `returns` | what the loss gives: units, items, reward |
| `config` | the node that ``loss=NAME`` composes to |

An argument has `name`; `type` ("number", "whole number", "true or false", "text", "choice", "loss" or "losses");
`nullable`; `default`; `range` in interval notation ("(0, inf)" leaves 0 out, "[0, 1]" holds both ends), null where any
finite number is allowed and for what is no number;
`choices`, or null; `meaning`.
"""
