"""``python -m tests.chaos``: break changes on purpose, look at what is left; writes docs/reliability.md if asked."""

import sys

from tests.chaos import ptrace
from tests.proof import Proof

_HEAD = """\
# Reliability

`make chaos` writes this page. Its figures are those of one run: {date}, commit {commit}, {machine}. Seed {seed}, {time} in all.
{verdict}

A change of the configuration goes into two places, the file and the journal in the store (see
[architecture](architecture.md)). The rounds below break it on purpose and look at what is left.

What is not shown here: a power cut. Killing a process keeps what the kernel has taken in; that a change is on the
disk before it is answered rests on the order of `fsync` calls, which the section on faults checks in the calls
themselves, and on disks that keep what they confirm.
"""
_TAIL = """\
## Repeat it

```sh
make chaos                                        # everything, and this page
python -m tests.chaos --part 0.1                  # a tenth of it, without the page
python -m tests.chaos --only faults --seed 7
```

It needs Linux on x86_64 or aarch64, and a place where `ptrace` is permitted. A violation is printed with the command that
repeats its round; `--seed` draws other rounds. `make test` runs a sample of each section.
"""

_SECTIONS = ("faults", "kills", "editors", "writers", "first_starts", "undo", "plans", "reload")
PROOF = Proof(
    name="chaos",
    description="Break a change, look at what is left.",
    sections={name: f"tests.chaos.{name}" for name in _SECTIONS},
    page="reliability.md",
    head=_HEAD,
    tail=_TAIL,
    why_not=ptrace.why_not,
)

if __name__ == "__main__":
    sys.exit(PROOF.main())
