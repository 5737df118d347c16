"""The base of every options model: unknown keys are errors that help."""

import difflib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME)]


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
    """Return a message about a key that does not exist."""
    return f"unknown key {key!r}{did_you_mean(key, allowed)}; allowed keys: {', '.join(allowed)}"


def did_you_mean(given: object, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> str:
    """Return " (did you mean 'x'?)" with the most similar names, or nothing."""
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


def union_by_tag(union: Any) -> dict[str, Any]:
    """Return the models of a union that one of their fields tells apart, by that field's value."""
    models, discriminated = get_args(union)
    return {
        model.model_fields[discriminated.discriminator].default: model for model in get_args(models)
    }


def plain(options: Options, **more: Any) -> dict[str, Any]:
    """Return options as plain values with sorted keys, for a rule's `params`."""
    values = json.loads(options.model_dump_json()) | more
    return {key: values[key] for key in sorted(values)}
