"""How often int8 and fp32 disagree, over the last slices that both of them read whole studies of."""

from __future__ import annotations

from collections import deque

LIMIT = 0.05  # more than this share of slices that differ is an alarm: the promise of the text this project grew from
WINDOW = 2000  # slices
LEAST = 100  # slices; with fewer, one odd study would be an alarm


class DisagreementMonitor:
    """Counts wholly shadowed studies only: slices compared because they decide a finding are the hard ones and would bias the rate."""

    def __init__(self, limit: float = LIMIT, window: int = WINDOW, least: int = LEAST) -> None:
        self.limit, self.least = limit, least
        self._slices: deque[bool] = deque(maxlen=window)

    def add(self, differ: list[bool]) -> None:
        """One wholly shadowed study: for every slice, whether the two labels differed."""
        self._slices.extend(differ)

    @property
    def compared(self) -> int:
        return len(self._slices)

    @property
    def rate(self) -> float:
        """Share of differing slices, 0.0 to 1.0."""
        return sum(self._slices) / len(self._slices) if self._slices else 0.0

    @property
    def alarm(self) -> bool:
        return self.compared >= self.least and self.rate > self.limit
