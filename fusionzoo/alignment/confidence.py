"""How sure an estimate is: a logistic curve fitted on right and wrong estimates of train pairs."""

from __future__ import annotations

import math

from fusionzoo.alignment.estimate import Estimate

#: Below this an alignment is refused.
LEAST_CONFIDENCE = 0.5
#: From 90 estimates on train pairs of RoadScene, TNO and LLVIP at 320 pixels, as they are and
#: warped: those that agree with the unwarped pair within 5 px gain 0.27 to 1.9 a patch, others
#: 0.24 at most. Gains of few patches say less.
_SLOPE, _MIDDLE, _MANY = 14.0, 0.33, 100


def confidence_of(found: Estimate) -> float:
    """Return how sure an estimate is, in [0, 1]."""
    if found.patches < 6:
        return 0.0
    evidence = found.gain * math.sqrt(min(found.patches, _MANY) / _MANY)
    return 1 / (1 + math.exp(-_SLOPE * (evidence - _MIDDLE)))
