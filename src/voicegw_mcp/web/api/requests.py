"""What a request of the API asks for: the parameters of its query, and the type of answer. May import ``errors``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from voicegw_mcp.errors import InvalidInput, quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

MOST_PARAMETERS: Final = 50


class NotAcceptable(InvalidInput):
    """The answer has none of the types that the header Accept names."""

    http_status = 406


def read_query(scope: Scope) -> dict[str, str]:
    """Return the parameters of a query.

    Raises:
        InvalidInput: one is there twice, there are too many, or they are not UTF-8.
    """
    try:
        pairs = parse_qsl(
            scope.get("query_string", b"").decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_PARAMETERS,
        )
    except ValueError as error:
        raise InvalidInput(
            f"The query is not UTF-8 in percent-encoding, or has more than {MOST_PARAMETERS} parameters.",
            hint="Write it like ?period=week&project=support-line.",
        ) from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            field = quote(name)[1:-1]
            raise InvalidInput(f"{field} is there twice.", field=field, hint="Pass every parameter once.")
        found[name] = value
    return found


def choose_type(scope: Scope, offered: Sequence[str]) -> str:
    """Return the type of answer that the header Accept likes best (RFC 9110, 12.5.1); of equal ones the first offered.

    Raises:
        NotAcceptable: it likes none.
    """
    accepted = ", ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")
    if not accepted.strip():
        return offered[0]
    ranges = [_weighed(part) for part in accepted.split(",") if part.strip()]
    weights = {kind: _weight(kind, ranges) for kind in offered}
    best = max(offered, key=weights.__getitem__)
    if weights[best] <= 0:
        raise NotAcceptable(
            f"{scope['path']} has no answer of the type {quote(accepted)}.",
            field="Accept",
            hint=f"Accept {' or '.join(offered)}.",
            details={"offered": list(offered)},
        )
    return best


def _weighed(part: str) -> tuple[str, float]:
    """Return a range of types and its weight; what is no weight is none."""
    kind, *parameters = (item.strip().lower() for item in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return kind, min(float(value), 1.0)
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def _weight(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the weight of the range that names a type most closely."""
    family = f"{kind.partition('/')[0]}/*"
    for name in (kind, family, "*/*"):
        for found, weight in ranges:
            if found == name:
                return weight
    return 0.0
