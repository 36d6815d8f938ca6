"""The results: what is measured, the table of what was measured, and the Markdown made of it.

``checkpoints/benchmark.yaml`` says what is run, ``checkpoints/results.csv`` holds the figures, and
tables in the documents stand between two markers that are comments in Markdown::

    <!-- table: results -->
    <!-- end table -->

``models``, ``weights`` and ``results`` are of all models; ``facts KEY``, ``results KEY``, and
``rules KEY`` or whatever a run names as its ``table``, are of one. So is the YAML header of a card.
Prose around them is written by hand, tables and headers never are.
"""

from fusionzoo.results.card import card_template, write_card
from fusionzoo.results.config import Config, Printed, Run, TestSet, read_config
from fusionzoo.results.documents import documents_of, refreshed, stale_documents, write_documents
from fusionzoo.results.figures import Figure, figures_text, read_figures

__all__ = [
    "Config",
    "Figure",
    "Printed",
    "Run",
    "TestSet",
    "card_template",
    "documents_of",
    "figures_text",
    "read_config",
    "read_figures",
    "refreshed",
    "stale_documents",
    "write_card",
    "write_documents",
]
