"""Writes every page of docs/reference, and the runbook's dashboard:
`python -m deploy.maintenance.reference`.
"""

from deploy.maintenance import runbook_dashboard
from deploy.maintenance.reference.pages import FOLDER, PAGES

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        (FOLDER / name).write_text(write())
    runbook_dashboard.PATH.write_text(runbook_dashboard.runbook_dashboard())
