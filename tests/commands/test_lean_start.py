"""What needs no model imports none: in a process of its own, since this one has imported everything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "pytorch_lightning", "pyarrow", "numpy", "pandas", "datasets", "wandb", "matplotlib")
CODE = """
import json, sys
from dpo_lab.commands.cli import main

sys.argv = ["dpo-lab", *json.loads(sys.argv[1])]
try:
    code = main()
except SystemExit as end:
    code = end.code
print(json.dumps([code or 0, sorted(sys.modules)]))
"""


def imported(root: Path, *words: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", CODE, json.dumps(words)], cwd=root, capture_output=True, text=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize(
    "words", [["--help"], ["train", "--help"], ["train", "--cfg", "job", "loss=ipo"]], ids=" ".join
)
def test_help_and_a_composed_config_import_nothing_heavy(root: Path, words: list[str]):
    assert not set(HEAVY) & imported(root, *words)


def test_a_list_of_caches_imports_no_model(root: Path, tmp_path: Path):
    assert not (set(HEAVY) - {"numpy"}) & imported(root, "cache", "list", "--cache-dir", str(tmp_path))


def test_a_run_that_is_not_mirrored_imports_neither_its_mirror_nor_a_hub(root: Path, tmp_path: Path):
    folders = [f"runs_dir={tmp_path / 'runs'}", f"cache_dir={tmp_path / 'cache'}"]
    sizes = ["data.num_pairs=8", "data.num_validation_pairs=2", "data.num_demonstrations=2", "trainer.max_steps=1"]
    modules = imported(root, "train", *folders, *sizes, "start=none", "samples.num=0", "logger=local")
    assert "torch" in modules
    assert not {"wandb", "datasets", "peft", "bitsandbytes"} & modules
