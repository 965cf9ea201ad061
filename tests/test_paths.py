"""The configuration tree is the repository's in a checkout and the package's own in a wheel."""

from pathlib import Path

from dpo_lab.paths import CONF_DIR, find_conf_dir


def test_a_checkout_reads_its_own_conf(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "train.yaml").write_text("")
    assert find_conf_dir(tmp_path / "dpo_lab", tmp_path) == tmp_path / "dpo_lab" / "conf"
    (tmp_path / "pyproject.toml").write_text("")
    assert find_conf_dir(tmp_path / "dpo_lab", tmp_path) == tmp_path / "conf"


def test_the_tree_in_use_has_the_default_run() -> None:
    assert (CONF_DIR / "train.yaml").is_file()
