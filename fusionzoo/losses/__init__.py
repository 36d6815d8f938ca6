"""Fusion metrics to train on: the values of :mod:`fusionzoo.metrics`, with gradients that hold.

    from fusionzoo.losses import MetricLoss

    criterion = MetricLoss(vif=0.3, qabf=2.0, ssim=1.0, scd=0.3)
    loss = criterion(fused, ir, vi)          # a scalar: the negative weighted sum
    loss.backward()

Every function takes the fused, infrared and visible image as float tensors ``(B, 1, H, W)`` on a
0 ... 1 scale and gives one value per image, ``(B,)``, higher is better: subtract it to minimise.
Other than the metrics, the functions neither clip nor refuse values beyond [0, 1], since a network
in training gives such values, and the gradient there has to lead back. The arithmetic is that of
the input's precision, float32 at least. Nothing is rounded.

A network that is trained on a metric is good at that metric. Judge the network by others, and look
at its pictures: VIF above all rises with pictures that nobody wants
(``docs/lapnet.md`` shows how).
"""

from fusionzoo.losses.metric_losses import MetricLoss, qabf, scd, ssim, vif

__all__ = ["MetricLoss", "qabf", "scd", "ssim", "vif"]
