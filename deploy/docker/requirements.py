"""Prints the dependencies of pyproject.toml, one per line: `requirements.py [EXTRA…]`.

The Dockerfiles install them before they copy the code, so that a code change does not rebuild the
large layer.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted = list(project["dependencies"])
for extra in sys.argv[1:]:
    wanted += project["optional-dependencies"][extra]
sys.stdout.write("\n".join(wanted) + "\n")
