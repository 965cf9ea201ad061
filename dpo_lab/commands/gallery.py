"""``docs/losses.md`` and its picture, from the same source as `dpo-lab losses`."""

from pathlib import Path

from dpo_lab.catalogue.curves import compute_picture
from dpo_lab.catalogue.entry import read_entries
from dpo_lab.catalogue.page import write_page
from dpo_lab.report.loss_picture import draw_gallery


def write_gallery(docs: Path) -> None:
    """Write ``losses.md`` and ``losses/gallery.png`` into the folder `docs`."""
    entries = read_entries()
    picture = docs / "losses" / "gallery.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_gallery([compute_picture(entry) for entry in entries], picture)
    page = docs / "losses.md"
    page.write_text(write_page(entries), encoding="utf-8")
    print(f"{page}\n{picture}")
