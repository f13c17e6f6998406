"""Who belongs together when one request is tried on several instances: context variables that the tasks of a request inherit.

LiveKit's adapters start a task per request and others for what recovers; each inherits the context it was started in.
Imports ``inference.leaf`` only.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from voicegw_mcp.inference.leaf import Leaf


class Chain:
    """One request on its way through the instances of a fallback list.

    Args:
        leaves: the instances in the order they are tried.
    """

    __slots__ = ("_failed", "_leaves")

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self._leaves = leaves
        self._failed: str | None = None

    def fail(self, leaf: Leaf) -> None:
        """Remember that an instance failed at this request."""
        self._failed = leaf.model_id

    def before(self, leaf: Leaf) -> str | None:
        """Return the model that a request on ``leaf`` stands in for, None for the first one and for what is in no list.

        That which failed last at this request, else that which is passed over because it failed at an earlier one.
        """
        if leaf is self._leaves[0] or leaf not in self._leaves:
            return None
        if self._failed is not None:
            return self._failed
        return next(before.model_id for before, each in pairwise(self._leaves) if each is leaf)


current: Final[ContextVar[Chain | None]] = ContextVar("voicegw_chain", default=None)
"""The request that what happens in this context belongs to; None outside of fallback lists."""

probing: Final[ContextVar[bool]] = ContextVar("voicegw_probing", default=False)
"""Whether what happens in this context only asks if an instance that failed works again."""


@contextmanager
def apart() -> Generator[None]:
    """Leave the request, and the probe, that this context belongs to while the block runs."""
    request, probe = current.set(None), probing.set(False)
    try:
        yield
    finally:
        current.reset(request)
        probing.reset(probe)
