"""``python -m tests.store_proofs``: backups under load, interrupted commands and damaged stores; writes docs/store-proofs.md if asked."""

import sys

from tests.chaos import ptrace
from tests.proof import Proof

_HEAD = """\
# Proofs about the store

`make store-proofs` writes this page. Its figures are those of one run: {date}, commit {commit}, {machine}. Seed {seed}, {time} in all.
{verdict}

What backups, restores, prunes and repairs promise is described in [storage](storage.md). The rounds below try to break it. Not shown here: a power cut;
see [reliability](reliability.md).
"""
_TAIL = """\
## Repeat it

```sh
make store-proofs                                   # everything, and this page
python -m tests.store_proofs --part 0.1             # a tenth of it, without the page
python -m tests.store_proofs --only damage --seed 7 # other damage
```

The section on interruptions needs Linux on x86_64 or aarch64, and a place where `ptrace` is permitted. A violation is printed with the command that
repeats its round. `make test` runs a sample of each section.
"""
_SECTIONS = ("backups", "interruptions", "damage")

PROOF = Proof(
    name="store_proofs",
    description="Back up, restore, prune and repair stores that are written to, interrupted and damaged.",
    sections={name: f"tests.store_proofs.{name}" for name in _SECTIONS},
    page="store-proofs.md",
    head=_HEAD,
    tail=_TAIL,
    why_not=ptrace.why_not,
)

if __name__ == "__main__":
    sys.exit(PROOF.main())
