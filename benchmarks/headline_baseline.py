"""What a linear model makes of headlines: a support vector machine on TF-IDF of character 1- and 2-grams.

    pip install scikit-learn
    python benchmarks/headline_baseline.py dev.txt test.txt

Files as THUCNews has them: title, tab, class number. It says accuracy (with Wilson's interval) and macro-F1 (with the
percentiles of a bootstrap over titles) on the second file.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer  # pyright: ignore[reportMissingImports]
from sklearn.svm import LinearSVC  # pyright: ignore[reportMissingImports]

from dpo_lab.intervals import wilson

NUM_DRAWS = 2000


def read(path: str) -> tuple[list[str], np.ndarray]:
    """Titles, and their classes."""
    rows = [line.rsplit("\t", 1) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    return [title for title, _ in rows], np.array([int(number) for _, number in rows])


def macro_f1(gold: np.ndarray, said: np.ndarray, num_classes: int) -> float:
    """The mean of 2 hits / (gold + said) over the classes."""
    hits = np.bincount(gold[gold == said], minlength=num_classes)
    both = np.bincount(gold, minlength=num_classes) + np.bincount(said, minlength=num_classes)
    return float(np.mean(2 * hits / both))


def main(train: str, test: str) -> None:
    texts, classes = read(train)
    held_out, gold = read(test)
    ngrams = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    machine = LinearSVC(random_state=0).fit(ngrams.fit_transform(texts), classes)
    said = machine.predict(ngrams.transform(held_out))
    num_classes = int(max(classes.max(), gold.max())) + 1
    draws = np.random.default_rng(0).integers(0, len(gold), (NUM_DRAWS, len(gold)))
    drawn = [macro_f1(gold[rows], said[rows], num_classes) for rows in draws]
    low, high = wilson(float((gold == said).mean()), len(gold))
    print(f"accuracy {(gold == said).mean():.4f} [{low:.4f}, {high:.4f}]")
    low, high = np.quantile(drawn, [0.025, 0.975])
    print(f"macro-F1 {macro_f1(gold, said, num_classes):.4f} [{low:.4f}, {high:.4f}]")


if __name__ == "__main__":
    main(*sys.argv[1:])
