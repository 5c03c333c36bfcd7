"""Writes every page of docs/reference: `python -m deploy.maintenance.reference`."""

from deploy.maintenance.reference.pages import FOLDER, PAGES

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        (FOLDER / name).write_text(write())
