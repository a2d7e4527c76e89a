"""Units that compete within a group, of which only the winner passes its value on."""

from __future__ import annotations

from typing import Any

from fastact.catalogue.definition import define_on_groups
from fastact.simd import isnan


@define_on_groups(
    formula=r"\max_{1 \le j \le k} x_j",
    derivative=r"\begin{cases} 1 & j = \text{the first index of the maximum} \\ 0 & \text{else} \end{cases}",
    kinks={"ties": "1 for the first maximum, 0 for the others"},
    limits=("-inf", "inf"),
    errors=(0.0, 0.0),
    parameters_are={"pieces": "the number of consecutive features in a group"},
    samples=({"pieces": 2},),
    elsewhere={"thinc": "maxout", "chainer": "maxout"},
    good_for="nets with dropout that may have many weights, whose units should neither saturate nor die",
    not_for="nets short of memory: every unit costs `pieces` times the weights",
    reference="I. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville, Y. Bengio, Maxout Networks, ICML 2013.",
)
def maxout(best: Any, other: Any) -> Any:
    """Maxout: the maximum of each group of features, a convex function that the network learns.

    No exponential. It neither saturates nor dies, at the cost of `pieces` times the weights. NaN counts as the
    maximum.

    Examples
    --------
    >>> fa.maxout([1.0, 4.0, 3.0, 2.0], pieces=2)
    array([4., 3.])
    """
    return ~(other <= best) & ~isnan(best)
