"""The base of every options model: unknown keys are errors that help."""

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Options(BaseModel):
    """Immutable, validated settings. A key that no field has is refused with the nearest match."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, given: Any) -> Any:
        if isinstance(given, dict):
            for key in given:
                if key not in cls.model_fields:
                    raise ValueError(_unknown_key(str(key), list(cls.model_fields)))
        return given


def _unknown_key(key: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown key {key!r}; {hint}allowed keys: {', '.join(allowed)}"
