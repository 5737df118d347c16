"""The base of every options model: unknown keys are errors that help."""

import difflib
from collections.abc import Iterable
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError


class Options(BaseModel):
    """Immutable, validated settings. A key that no field has is refused with the nearest match."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _name_unknown_keys(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(given)
        except ValidationError as error:
            allowed = list(cls.model_fields)
            lines = [_with_allowed_keys(item, allowed) for item in error.errors()]
            raise ValidationError.from_exception_data(cls.__name__, lines) from None


def unknown_key(key: str, allowed: list[str]) -> str:
    """What to tell about a key that does not exist."""
    return f"unknown key {key!r}{did_you_mean(key, allowed)}; allowed keys: {', '.join(allowed)}"


def did_you_mean(given: object, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> str:
    """Return " (did you mean 'x'?)" of the names that are most like what was given, or nothing."""
    by_fold = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(str(given).casefold(), by_fold, n=most, cutoff=cutoff)
    near = " or ".join(repr(by_fold[name]) for name in found)
    return f" (did you mean {near}?)" if near else ""


def _with_allowed_keys(item: ErrorDetails, allowed: list[str]) -> InitErrorDetails:
    kind, where, message = item["type"], list(item["loc"]), item["msg"]
    if kind in ("extra_forbidden", "invalid_key") and len(where) == 1:
        kind, message = "unknown_key", unknown_key(str(where.pop()), allowed)
    return InitErrorDetails(
        type=PydanticCustomError(kind, message, item.get("ctx")),
        loc=tuple(where),
        input=item["input"],
    )
