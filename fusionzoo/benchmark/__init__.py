"""How good the models are and how fast: what fusionzoo measures of itself.

Neither torch nor numpy is imported before something is measured.
"""

from fusionzoo.benchmark.metric_speed import measure_metrics
from fusionzoo.benchmark.speed import measure_fusing

__all__ = ["measure_fusing", "measure_metrics"]
