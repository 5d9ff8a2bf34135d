"""Mean, deviation and confidence intervals over runs, without any library.

Every interval says its method: what it covers depends on it. `t over 4 seeds` covers the spread
between runs; a bootstrap over test items covers the draw of these items, for the models as they
were trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

LEVEL = 0.95
"""Of all intervals."""

_NORMAL_QUANTILE = 1.959963984540054
"""Of (1 + LEVEL) / 2."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, and how it was made."""

    low: float
    high: float
    method: str
    level: float = LEVEL

    def to_json(self) -> dict[str, float | str]:
        return {"method": self.method, "level": self.level, "low": self.low, "high": self.high}


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, the same for any order of `values`.

    ValueError for none, OverflowError where the numbers are too large.
    """
    if not values:
        raise ValueError("the mean of no values")
    # fsum rounds once, at the end: any order of the values gives the same bits.
    return _finite(math.fsum(values) / len(values))


def sample_std(values: Sequence[float]) -> float | None:
    """Standard deviation with n - 1 in the denominator; None for fewer than two values.

    OverflowError where the numbers are too large.
    """
    if len(values) < 2:
        return None
    centre = mean(values)
    squares = math.fsum((value - centre) ** 2 for value in values)
    return _finite(math.sqrt(squares / (len(values) - 1)))


def t_interval(values: Sequence[float], unit: str) -> Interval | None:
    """Student's interval of the mean over `values`, each of one `unit`; None for fewer than two."""
    std = sample_std(values)
    if std is None:
        return None
    half = t_quantile((1 + LEVEL) / 2, len(values) - 1) * std / math.sqrt(len(values))
    return _around(mean(values), half, f"t over {len(values)} {unit}s")


def bootstrap_interval(
    values: Sequence[float], errors: Sequence[float], name: str, unit: str
) -> Interval:
    """Interval of the mean over `values`, whose bootstrap standard `errors` are independent.

    `name` is that of the bootstrap, `unit` what each value is of: an axis's name.
    """
    error = math.sqrt(math.fsum(e * e for e in errors)) / len(errors)
    method = f"{name} within {len(values)} {unit}{'s' if len(values) > 1 else ''}"
    return _around(mean(values), _NORMAL_QUANTILE * error, method)


def _around(centre: float, half: float, method: str) -> Interval:
    return Interval(_finite(centre - half), _finite(centre + half), method)


def _finite(value: float) -> float:
    """`value`; OverflowError where it is none: a power overflows so, a product becomes infinite."""
    if not math.isfinite(value):
        raise OverflowError("the numbers are too large")
    return value


@lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: int) -> float:
    """Student's t below which `probability` (> 1/2) of the distribution lies."""
    if not 0.5 < probability < 1 or degrees < 1:
        raise ValueError(f"no t quantile of {probability} with {degrees} degrees of freedom")

    def below(t: float) -> float:
        return 1 - _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2

    # Rounded, so that machines whose logarithms differ in the last bit write the same view.
    return round(_solve(below, probability), 9)


def _solve(rising: Callable[[float], float], target: float) -> float:
    # t can be large: 12.7 with one degree of freedom. Doubling finds a bound in a few steps.
    high = 1.0
    while rising(high) < target:
        high *= 2
    low = 0.0
    # Far more halvings than a float has bits; the loop ends when the interval cannot be halved.
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return high


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x in (0.0, 1.0):
        return x
    # The fraction converges fast only below this point; the symmetry I_x(a, b) = 1 - I_(1-x)(b, a)
    # leads there.
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    scale = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return scale / a * _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """1 / (1 + d1 / (1 + d2 / ...)), from the front (modified Lentz)."""
    # Lentz's method divides by intermediate values: an exact 0 is replaced by this.
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for i in range(400):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + term * d or tiny)
        c = 1 + term / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value - 1
