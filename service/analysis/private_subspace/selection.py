"""Certified selection: release the best item with a probability that depends on its margin alone, or nothing.

Scores change by at most 1 when one row is replaced. The margin g of the best item is its lead over the majority
(score − n/2) or half its lead over the second. With Z a Laplace variable of scale 1/ε cut to [−B, B], it is released
with probability p(g) = P[Z > B − g]. If neighbours agree on the best item, this is the truncated-Laplace mechanism on
a number of sensitivity 1; if not, both margins are at most 1 and p(1) = δ. So it is (ε, δ)-differentially private.

p(g) is computed to 60 digits and drawn as one integer comparison: there is no floating-point noise to attack.
"""

import math
import random
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction

DIGITS = 60
BITS = 128
"""An event of probability p is drawn as `randbits(128) < floor(2^128 p)`; what that rounds is added to δ."""


def exactly(number: float) -> Decimal:
    """The decimal number that a caller wrote, which its nearest double only resembles."""
    return Decimal(repr(number))


def half_width(epsilon: Decimal, delta: Decimal) -> Decimal:
    """B = ln(1 + (e^ε − 1)/(2δ)) / ε, in units of the score."""
    with localcontext(Context(prec=DIGITS)):
        return (1 + (epsilon.exp() - 1) / (2 * delta)).ln() / epsilon


def release_probability(margin: Fraction, epsilon: Decimal, delta: Decimal) -> Decimal:
    """p(g) = P[Z > B − g]: 0 for g ≤ 0, δ at g = 1, and 1 from g = 2B on."""
    if margin <= 0:
        return Decimal(0)
    with localcontext(Context(prec=DIGITS)):
        width = half_width(epsilon, delta)
        z = width - Decimal(margin.numerator) / Decimal(margin.denominator)
        edge = (-epsilon * width).exp()
        scale = 2 * (1 - edge)
        if z <= -width:
            return Decimal(1)
        if z < 0:
            return 1 - ((epsilon * z).exp() - edge) / scale
        return ((-epsilon * z).exp() - edge) / scale


def threshold(probability: Decimal) -> int:
    """The integer below which 128 random bits fall with this probability, rounded down."""
    with localcontext(Context(prec=DIGITS)):
        return int((probability * (1 << BITS)).to_integral_value(ROUND_FLOOR))


def is_released(margin: Fraction, epsilon: Decimal, delta: Decimal, source: random.Random) -> bool:
    """One draw. `source` must be the operating system's for a private release."""
    return source.getrandbits(BITS) < threshold(release_probability(margin, epsilon, delta))


def accounted_delta(epsilon: Decimal, delta: Decimal, miss: Decimal) -> Decimal:
    """δ of a mechanism that fails to follow this one with probability `miss`: δ + (1 + e^ε)(miss + 2^−127)."""
    with localcontext(Context(prec=DIGITS)):
        return delta + (1 + epsilon.exp()) * (miss + Decimal(2) ** (1 - BITS))


def rounded_up(number: Decimal, digits: int = 15) -> float:
    """A double that is not smaller: what is reported is never better than what holds."""
    short = Context(prec=digits, rounding=ROUND_CEILING).plus(number)
    nearest = float(short)
    return nearest if Decimal(nearest) >= number else math.nextafter(nearest, math.inf)
