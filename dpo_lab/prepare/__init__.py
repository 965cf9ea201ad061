"""Steps that rows go through before a run sees them: one file, one step, one name in ``prepare=[...]``.

A function takes the step's knobs and gives a `BeforeSplit` or an `OfTraining` of `dpo_lab.data.preparation`; knobs that
contradict each other, and files that cannot be read, it refuses before any row is read.
"""
