"""Where `matting demo` puts its results: over earlier ones of its own, never over other files."""

from pathlib import Path
from typing import cast

from api.client import Item
from deploy.commands.demo import SHEET, own_folder
from deploy.commands.written_files import WrittenFiles

ITEMS = [
    cast(
        Item,
        {
            "id": "1",
            "name": "a.jpg",
            "status": "succeeded",
            "result_format": "png",
            "outputs": [{"name": "a.png"}],
        },
    )
]


def test_results_of_an_earlier_demo_are_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert own_folder(out, ITEMS)[0] == out
    out.mkdir()
    (out / "notes.txt").write_text("of the person")
    (out / "a.png").write_text("of an earlier version")
    files = WrittenFiles(out, None, "demo")
    files.note(out / "a.png", "a.png", [out / "a.png"])
    assert own_folder(out, ITEMS)[0] == out
    (out / "a.png").write_text("retouched by the person")
    assert own_folder(out, ITEMS)[0] == out / "demo-1"
    (out / "a.png").unlink()
    (out / SHEET).write_text("of the person")
    assert own_folder(out, ITEMS)[0] == out / "demo-1"
    (out / "demo-1").mkdir()
    (out / "demo-1" / SHEET).write_text("of the person")
    assert own_folder(out, ITEMS)[0] == out / "demo-2"
