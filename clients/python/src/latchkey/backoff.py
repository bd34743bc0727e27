"""Delays between retries: exponential, with jitter."""

from __future__ import annotations

import random


class Backoff:
    """Doubles the delay from ``first`` to ``maximum`` seconds. Jitter keeps many verifiers from retrying at the same moment."""

    def __init__(self, first: float = 0.1, maximum: float = 5.0) -> None:
        """Starts at the first delay."""
        self._first, self._maximum, self._next = first, maximum, first

    def next_delay(self) -> float:
        """The next delay in seconds: between half and all of the current step."""
        step, self._next = self._next, min(self._next * 2, self._maximum)
        return step * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret

    def reset(self) -> None:
        """Returns to the first delay after a success."""
        self._next = self._first
