"""Writes docs/hostile.md from the figures of a run."""

import datetime as dt

from tests.chaos import page
from tests.chaos.section import Section, SectionModule

PAGE = page.ROOT / "docs" / "hostile.md"

_HEAD = """\
# Hostile input

`python -m tests.hostile --write-docs` writes this page. Its figures are those of one run: {date}, commit {commit}, {machine}. Seed {seed}, {time} in all.
{verdict}

Real servers over loopback and stdio get what no client should send, and are asked afterwards whether they still answer. What they let in and what
they refuse is described in [http](http.md).
"""
_TAIL = """\
## Repeat it

```sh
python -m tests.hostile --write-docs               # everything, and this page (Linux)
python -m tests.hostile --frames 2000              # a tenth of it, without the page
python -m tests.hostile --only frames --seed 7     # other frames
```

`make test` runs a sample of each section.
"""


def write(found: list[tuple[SectionModule, Section, float]], seed: int) -> None:
    """Write the page about these sections and the seconds each took."""
    violations = sum(len(section.violations) for _, section, _ in found)
    head = _HEAD.format(
        date=dt.datetime.now(dt.UTC).date(),
        commit=page._commit(),
        machine=page._machine(),
        seed=seed,
        time=page._span(sum(seconds for _, _, seconds in found)),
        verdict="Nothing was violated." if not violations else f"**{violations} violations were found.**",
    )
    parts = [page._part(module, section, seconds) for module, section, seconds in found]
    PAGE.write_text("\n".join([head, *parts, _TAIL]), encoding="utf-8")
