"""
Instruments that exist before the SDK does, and whose labels are typed.

An instrument is made once, at import, and bound to a meter by ``configure``;
unbound it does nothing. Its label function fixes the label names in the type of
``add``, ``record`` and ``set``, and folds unbounded values into ``other``.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Generic, ParamSpec, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from telemetry.names import OTHER, CounterName, GaugeName, HistogramName

P = ParamSpec("P")
Labels = dict[str, str]


class LabelGuard:
    """
    Lets a bounded number of distinct values through, and says ``other`` after.

    The first ``limit`` values seen keep their own series for the life of the
    process, so a flood of made-up values cannot push out the real ones.
    """

    def __init__(self, limit: int, known: Iterable[str] = ()) -> None:
        self._limit = limit
        self._seen = set(known)

    def __call__(self, value: str) -> str:
        """Return the value, or ``other`` once the bound is reached."""
        if value in self._seen:
            return value
        if len(self._seen) >= self._limit:
            return OTHER
        self._seen.add(value)
        return value


class Closed:
    """Lets a fixed set of values through, and says ``other`` for the rest."""

    def __init__(self, values: frozenset[str]) -> None:
        self._values = values

    def __call__(self, value: str) -> str:
        """Return the value when it belongs to the set, else ``other``."""
        return value if value in self._values else OTHER


class _Recording(Protocol):
    def record(self, amount: float, attributes: Labels | None = None) -> None: ...


class _Series:
    """
    Numbers by their labels, read by the SDK when somebody asks for them.

    Handing it each change instead cost more than everything else about counting.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], tuple[Labels, int]] = {}
        self._changing = threading.Lock()

    def add(self, amount: int, labels: Labels) -> None:
        """Add to a number."""
        key = tuple(labels.values())
        with self._changing:
            _, before = self._numbers.get(key, (labels, 0))
            self._numbers[key] = (labels, before + amount)

    def set(self, value: int, labels: Labels) -> None:
        """Replace a number."""
        with self._changing:
            self._numbers[tuple(labels.values())] = (labels, value)

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Return every number as it stands."""
        with self._changing:
            numbers = tuple(self._numbers.values())
        return [Observation(number, labels) for labels, number in numbers]


class Counter(Generic[P]):
    """A number that only grows."""

    def __init__(
        self, name: CounterName, description: str, labels: Callable[P, Labels]
    ) -> None:
        self.name = name
        self._description = description
        self._labels = labels
        self._series: _Series | None = None

    def add(self, amount: int, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a positive amount to the series of these labels."""
        if self._series is not None:
            self._series.add(amount, self._labels(*args, **kwargs))

    def bind(self, meter: Meter | None) -> None:
        """Count for this meter from now on, from zero; None counts nowhere."""
        self._series = None
        if meter is not None:
            self._series = _Series()
            meter.create_observable_counter(
                self.name, [self._series.observe], description=self._description
            )


class Histogram(Generic[P]):
    """A distribution, of durations in seconds unless its unit says otherwise."""

    def __init__(
        self,
        name: HistogramName,
        description: str,
        labels: Callable[P, Labels],
        unit: str = "s",
    ) -> None:
        self.name = name
        self._unit = unit
        self._description = description
        self._labels = labels
        self._target: _Recording | None = None

    def record(self, value: float, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Record one value in the series of these labels."""
        if self._target is not None:
            self._target.record(value, self._labels(*args, **kwargs))

    def bind(self, meter: Meter | None) -> None:
        """Send to this meter from now on; None sends nowhere."""
        self._target = (
            None
            if meter is None
            else meter.create_histogram(
                self.name, unit=self._unit, description=self._description
            )
        )


class Gauge(Generic[P]):
    """A number that goes up and down."""

    def __init__(
        self, name: GaugeName, description: str, labels: Callable[P, Labels]
    ) -> None:
        self.name = name
        self._description = description
        self._labels = labels
        self._series: _Series | None = None

    def set(self, value: int, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Set the series of these labels."""
        if self._series is not None:
            self._series.set(value, self._labels(*args, **kwargs))

    def bind(self, meter: Meter | None) -> None:
        """Show it through this meter from now on; None shows it nowhere."""
        self._series = None
        if meter is not None:
            self._series = _Series()
            meter.create_observable_gauge(
                self.name, [self._series.observe], description=self._description
            )
