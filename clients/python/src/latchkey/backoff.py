"""Delays between retries: exponential, with jitter."""

from __future__ import annotations

import random


class Backoff:
    """Doubles the delay from ``first`` to ``maximum`` seconds. Jitter keeps many verifiers from retrying at the same moment."""

    def __init__(self, first: float = 0.1, maximum: float = 5.0) -> None:
        """Starts with the step ``first``."""
        self._first = first
        self._maximum = maximum
        self._step = first

    def next_delay(self) -> float:
        """The next delay in seconds: a random part of the current step, at least half of it. Doubles the step."""
        step = self._step
        self._step = min(step * 2, self._maximum)
        return step * random.uniform(0.5, 1.0)  # noqa: S311 - jitter needs no secure random numbers

    def reset(self) -> None:
        """Returns to the first step, after a success."""
        self._step = self._first
