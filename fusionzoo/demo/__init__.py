"""The page of ``fusionzoo demo``: a pair, models, what they make of it, and the metrics.

:mod:`fusionzoo.demo.pairs` and :mod:`fusionzoo.demo.clips` do the work and know no page;
:mod:`fusionzoo.demo.page` is the page, and the one module that imports Gradio, the extra
``fusionzoo[demo]``.
"""
