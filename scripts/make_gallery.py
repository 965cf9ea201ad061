"""`python scripts/make_gallery.py` writes docs/losses.md and docs/losses/gallery.png anew."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dpo_lab.commands.gallery import write_gallery

if __name__ == "__main__":
    write_gallery(Path(__file__).resolve().parents[1] / "docs")
