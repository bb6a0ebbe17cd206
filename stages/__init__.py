"""One command for each DVC stage: `python -m stages.<name>`, run from the root of the project."""

import os

# GNU OpenMP reads these when torch loads it. Its default, spinning while it waits, makes two busy processes on one machine
# several times slower than one; results do not depend on it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
