"""The form every answer has: pydantic models whose fields are the keys a caller sees. May import pydantic only.

Optional means "may be left out": None is never sent. ``Receipt`` keys are shared by all writing tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from voicegw_mcp.core.changes import Receipt


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def fields(self) -> dict[str, Any]:
        """Return the present fields, what they hold as it is."""
        return {name: value for name, value in self if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Return the answer as JSON-like data without absent fields."""
        return self.model_dump(mode="json", exclude_none=True)


class Written(Answer):
    """What every writing tool adds to its answer. ``change_id`` is absent when nothing was written."""

    change_id: str | None = None
    config_version: str
    diff: str
    file: str

    @classmethod
    def from_receipt(cls, receipt: Receipt, **fields: Any) -> Self:
        """Return the answer made of a receipt and the tool's own fields."""
        return cls(
            change_id=receipt.change_id,
            config_version=receipt.config_version,
            diff=receipt.diff,
            file=receipt.file,
            **fields,
        )
