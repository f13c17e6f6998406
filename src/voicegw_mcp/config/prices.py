"""What ``pricing:`` of ``voicegw.yaml`` may hold: own prices of models, each from a day on. May import pydantic only.

Stricter than the rest of the file: what YAML reads as something else than it looks like (``yes``, ``20260101``) would be a
wrong price, and nobody would see it.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2199
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is a truth value and no price: write a number of USD")  # noqa: TRY004 - what pydantic takes for a problem of the value
    return value


def _day(value: object) -> object:
    plain = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    if value is not None and not plain and not (isinstance(value, str) and _DAY.fullmatch(value)):
        raise ValueError("is no date: write YYYY-MM-DD")
    if isinstance(value, dt.date) and not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise ValueError(f"is no day of the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return value


Price = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
Day = Annotated[dt.date, BeforeValidator(_day)]


class PriceOverride(BaseModel):
    """A price of your own in USD, valid from ``effective`` (a date, also one to come; without one: always)."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    effective: Day | None = None
    per_minute: Price | None = None
    per_1000_characters: Price | None = None
    per_million_input_tokens: Price | None = None
    per_million_output_tokens: Price | None = None
    per_million_cached_tokens: Price | None = None

    @model_validator(mode="after")
    def _has_a_price(self) -> Self:
        if not self.model_dump(exclude={"effective"}, exclude_none=True):
            raise ValueError("names no price")
        return self
