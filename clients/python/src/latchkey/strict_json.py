"""Unambiguous JSON: duplicate members, NaN and infinities are refused (RFC 7515, section 4; RFC 7519, section 4)."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def loads(text: str | bytes) -> Any:
    """Parses JSON text in UTF-8.

    Raises ``ValueError`` for invalid JSON, a duplicate member, or too deep nesting.
    """
    try:
        # Decoded here, because json.loads would also accept bytes in UTF-16 and UTF-32.
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def loads_object(text: str | bytes) -> dict[str, Any]:
    """Parses JSON text that must be an object; ``ValueError`` otherwise."""
    value = loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _reject_constant(name: str) -> NoReturn:
    # name is "NaN", "Infinity" or "-Infinity".
    raise ValueError(f"{name} is not JSON")
