"""A small configuration tree on stub targets, in the shape of ``conf/``."""

from pathlib import Path

TARGETS = "tests.config.stub_targets"

FILES = {
    "train.yaml": f"""
defaults: [model: small, data: files, loss: sigmoid, reference: none, optimizer: plain, trainer: cpu, logger: none,
           _self_, experiment: null]
name: test
seed: 0
seeds: {{order: null, init: null, dropout: null, sampling: null}}
runs_dir: runs
cache_dir: cache
fresh: false
sweep: {{on_error: continue}}
plugins: [{TARGETS}]
hydra: {{run: {{dir: .}}, output_subdir: null, job_logging: {{root: null}}, hydra_logging: {{root: null}},
         sweep: {{dir: "${{runs_dir}}/.sweeps/one", subdir: .}}}}
""",
    "model/small.yaml": f"defaults: [/start@_global_.start: none]\n_target_: {TARGETS}.model\npath: small",
    "data/files.yaml": f"_target_: {TARGETS}.data\npath: null\ncolumns: null",
    "loss/sigmoid.yaml": f"_target_: {TARGETS}.sigmoid\nbeta: 0.1\nlabel_smoothing: 0.0",
    "loss/ipo.yaml": f"_target_: {TARGETS}.ipo\nbeta: 0.1\nnormalization: sum",
    "reference/none.yaml": f"_target_: {TARGETS}.anything",
    "start/none.yaml": f"_target_: {TARGETS}.anything",
    "optimizer/plain.yaml": f"_target_: {TARGETS}.anything\nlr: 0.1",
    "trainer/cpu.yaml": f"_target_: {TARGETS}.Trainer\nmax_steps: 3\nmax_epochs: null\nglobal_batch_size: 8\n"
    "micro_batch_size: null\naccelerator: cpu\nwarmup: 0\nfused: true\nvalidate_every: null",
    "logger/none.yaml": f"_target_: {TARGETS}.anything",
    "experiment/short.yaml": "# @package _global_\ndefaults: [override /loss: ipo]\ntrainer: {max_steps: 1}",
}


def write_conf(folder: Path) -> Path:
    """Write the tree to ``folder/conf`` and return that folder."""
    for name, text in FILES.items():
        file = folder / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder / "conf"
