"""The runbook as a Grafana dashboard: one panel for each page of deploy/runbook.

So the dashboard's links work without the repository and without the internet.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "deploy" / "runbook"
PATH = ROOT / "deploy" / "grafana" / "dashboards" / "runbook.json"
UID = "matting-runbook"


def runbook_dashboard() -> str:
    """The dashboard as JSON. Links between pages become links between panels."""
    pages = sorted(RUNBOOK.glob("*.md"))
    panels = []
    for number, page in enumerate(pages, 1):
        text = page.read_text()
        for other_number, other in enumerate(pages, 1):
            text = text.replace(f"]({other.name})", f"](/d/{UID}?viewPanel={other_number})")
        panels.append(
            {
                "id": number,
                "type": "text",
                "title": page.stem,
                "gridPos": {"x": 0, "y": 12 * (number - 1), "w": 24, "h": 12},
                "options": {"mode": "markdown", "content": text.partition("\n")[2].strip()},
            }
        )
    board = {
        "uid": UID,
        "title": "matting runbook",
        "tags": ["matting"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "timezone": "utc",
        "panels": panels,
    }
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"
