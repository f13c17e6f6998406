"""``python -m tests.hostile``: send what no client should, look at what comes back; writes docs/hostile.md if asked."""

import sys
from pathlib import Path

from tests.proof import Proof

_HEAD = """\
# Hostile input

`make hostile` writes this page. Its figures are those of one run: {date}, commit {commit}, {machine}. Seed {seed}, {time} in all.
{verdict}

Real servers over loopback and stdio get what no client should send, and are asked afterwards whether they still answer. What they let in and what
they refuse is described in [http](http.md).
"""
_TAIL = """\
## Repeat it

```sh
make hostile                                       # everything, and this page (Linux)
python -m tests.hostile --part 0.1                 # a tenth of it, without the page
python -m tests.hostile --only frames --seed 7     # other frames
```

`make test` runs a sample of each section.
"""


def _why_not() -> str:
    there = Path("/proc/self/clear_refs").exists()
    return "" if there else "it reads the memory of a process from /proc"


PROOF = Proof(
    name="hostile",
    description="Send what no client should, look at what comes back.",
    sections={name: f"tests.hostile.{name}" for name in ("hosts", "tokens", "frames", "bodies")},
    page="hostile.md",
    head=_HEAD,
    tail=_TAIL,
    why_not=_why_not,
)

if __name__ == "__main__":
    sys.exit(PROOF.main())
