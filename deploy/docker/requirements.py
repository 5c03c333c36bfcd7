"""Prints what pyproject.toml asks for, one requirement a line: `requirements.py [EXTRA…]`.

An image installs these before the code is copied, so that the large layer changes only with them.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted = list(project["dependencies"])
for extra in sys.argv[1:]:
    wanted += project["optional-dependencies"][extra]
sys.stdout.write("\n".join(wanted) + "\n")
