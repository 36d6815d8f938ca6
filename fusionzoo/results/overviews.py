"""Tables with a line for each model, or for each published weight file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import PurePosixPath

from fusionzoo.evaluation.numbers import NOTHING, decimals, shown
from fusionzoo.evaluation.reports import arrow
from fusionzoo.metrics import get_protocol
from fusionzoo.models import MODELS, ModelEntry
from fusionzoo.results.config import MAIN, Config
from fusionzoo.results.figures import Figure
from fusionzoo.results.markdown import count, link, row, text_of
from fusionzoo.weights import CARD_NAME, WeightsCfg, weights_table

#: What the values that a model's own paper printed are called in the benchmark file.
PAPER = "paper"


def models_table(config: Config, figures: Sequence[Figure], cards: str) -> str:
    """Every model: paper, parameters, size and licence of its weights, and a few figures."""
    published = weights_table()
    trained = {key.partition(".")[0] for key in published}
    keys = sorted([*published, *(name for name in MODELS if name not in trained)])
    metrics = config.summary
    better = {m: direction("cddfuse", m) for m in metrics}
    lines = row("model", "paper", "parameters", "weights", "licence", "measured on",
                *(m + arrow(better[m]) for m in metrics))  # fmt: skip
    lines += row(*["---"] * 2, *["---:"] * 2, *["---"] * 2, *["---:"] * len(metrics))
    for key in keys:
        facts = _model_cells(key, published.get(key), cards)
        # The first test set speaks for the model.
        own = next(iter(_runs_of(figures, key)), [])
        values = {figure.metric: figure.ours for figure in own}
        cells = [shown(values.get(m), decimals([values.get(m) or 0.0])) for m in metrics]
        lines += row(*facts, _measured_on(config, own[0]) if own else NOTHING, *cells)
    return text_of(lines)


def weights_index(config: Config, figures: Sequence[Figure], cards: str) -> str:
    """Every published weight file: paper, size, licence, origin, and figures beside the paper's."""
    lines = row("weights", "paper", "size", "licence", "origin", "measured on", "paper / ours")
    lines += row(*["---"] * 2, "---:", *["---"] * 4)
    for key, cfg in sorted(weights_table().items()):
        facts = [_card_of(key, cards), paper_of(key), count(cfg.size, "B")]
        place, values = _main_figures(config, figures, key)
        lines += row(*facts, cfg.weights_licence, cfg.origin, place, values)
    return text_of(lines)


def paper_of(key: str) -> str:
    """A link to the paper behind a model or its weights, and the paper's year."""
    model = entry_of(key)
    return f"{link(model.title, model.paper)}, {model.year}"


def entry_of(key: str) -> ModelEntry:
    """The model that weights are of."""
    return MODELS[key.partition(".")[0]]


def title(config: Config, name: str) -> str:
    """What tables call a test set."""
    return config.sets[name].title if name in config.sets else name


def direction(protocol: str, metric: str) -> bool | None:
    """Whether a higher value is better; None where that is not known."""
    found = get_protocol(protocol).metrics.get(metric)
    return found.higher_is_better if found else None


def _main_figures(config: Config, figures: Sequence[Figure], key: str) -> tuple[str, str]:
    """Where a model's main figures were measured, and they as ``EN 7.25 / 7.00``.

    They are those of the first run whose values its paper printed; without any such run the
    first one's, of the metrics that the table of models shows.
    """
    runs = _runs_of(figures, key)
    if not runs:
        return NOTHING, NOTHING
    compared = [[figure for figure in run if PAPER in figure.printed] for run in runs]
    first = [figure for figure in runs[0] if figure.metric in config.summary]
    chosen = next(filter(None, compared), first)
    values = []
    for figure in chosen:
        digits = decimals([figure.ours or 0.0])
        pair = (figure.printed.get(PAPER), figure.ours)
        values.append(f"{figure.metric} {' / '.join(shown(value, digits) for value in pair)}")
    return _measured_on(config, (chosen or runs[0])[0]), ", ".join(values) or NOTHING


def _runs_of(figures: Sequence[Figure], key: str) -> list[list[Figure]]:
    """The figures of the usual runs of a model, in the order of the benchmark file."""
    own = [figure for figure in figures if figure.model == key and figure.table == MAIN]
    return [list(run) for _, run in groupby(own, lambda figure: figure.key)]


def _measured_on(config: Config, figure: Figure) -> str:
    return f"{title(config, figure.set)}, `{figure.protocol}`"


def _card_of(key: str, cards: str) -> str:
    return link(f"`{key}`", str(PurePosixPath(cards, key, CARD_NAME)))


def _model_cells(key: str, cfg: WeightsCfg | None, cards: str) -> list[str]:
    if cfg is None:
        return [f"`{key}`", paper_of(key), NOTHING, "none yet", NOTHING]
    sizes = [count(cfg.parameters), count(cfg.size, "B")]
    return [_card_of(key, cards), paper_of(key), *sizes, cfg.weights_licence]
