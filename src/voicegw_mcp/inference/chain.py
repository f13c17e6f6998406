"""What a context works on: one context variable that the tasks of a request inherit.

LiveKit's adapters start a task per request and others for what recovers; each inherits the context it was started in. It is one
variable and not one for each of its parts because it is read and set in every request.
Imports ``inference.leaf`` only.
"""

from __future__ import annotations

from contextvars import ContextVar
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Place(NamedTuple):
    """What a context works on.

    Args:
        meter: stands for the meter whose request it is: some plugins synthesize by calling their own ``stream``. None outside of requests.
        chain: the request on its way through a fallback list; None outside of those.
        probing: whether what happens here only asks if an instance that failed works again.
    """

    meter: object = None
    chain: Chain | None = None
    probing: bool = False


NOWHERE: Final = Place()

place: Final[ContextVar[Place]] = ContextVar("voicegw_place", default=NOWHERE)
