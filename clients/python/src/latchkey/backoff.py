"""How long to wait between tries: longer each time, and never the same as everybody else."""

from __future__ import annotations

import random


class BackOff:
    """Doubles from ``first`` to ``most`` seconds. Each wait is drawn from the upper half, so that many don't come at once."""

    def __init__(self, first: float = 0.1, most: float = 5.0) -> None:
        """Begins with the first."""
        self._first, self._most, self._next = first, most, first

    def wait(self) -> float:
        """How long to wait now, in seconds."""
        now, self._next = self._next, min(self._next * 2, self._most)
        return now * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret

    def reset(self) -> None:
        """It went well: the next wait is the first one again."""
        self._next = self._first
