"""Tables of models and of published weights, and the facts of one weight file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import PurePosixPath

from figures import Figure
from runs import MAIN, Benchmark

from fusionzoo.errors import InputError
from fusionzoo.evaluation.numbers import NOTHING, decimals, shown
from fusionzoo.evaluation.reports import arrow
from fusionzoo.metrics import get_protocol
from fusionzoo.models import MODELS, ModelEntry, split_key
from fusionzoo.weights import CARD_NAME, WEIGHTS_NAME, WeightsCfg, read_config, weights_table

#: What the values that a model's own paper printed are called in the benchmark file.
PAPER = "paper"
_UNITS = ("", "k", "M", "G")


def models_table(benchmark: Benchmark, figures: Sequence[Figure], cards: str) -> str:
    """Every model: paper, parameters, size and licence of its weights, and a few figures.

    Beside them: the options of fusing whose default is not the paper's.
    """
    published = weights_table()
    trained = {split_key(key)[0] for key in published}
    keys = sorted([*published, *(name for name in MODELS if name not in trained)])
    metrics = benchmark.summary
    better = {m: direction("cddfuse", m) for m in metrics}
    lines = row("model", "paper", "parameters", "weights", "licence", "departs in", "measured on",
                *(m + arrow(better[m]) for m in metrics))  # fmt: skip
    lines += row(*["---"] * 2, *["---:"] * 2, *["---"] * 3, *["---:"] * len(metrics))
    for key in keys:
        facts = _model_cells(key, published.get(key), cards)
        own = main_run(figures, key)
        values = {figure.metric: figure.ours for figure in own}
        cells = [shown(values.get(m), decimals([values.get(m) or 0.0])) for m in metrics]
        place = _measured_on(benchmark, own[0]) if own else NOTHING
        lines += row(*facts, departures(benchmark, key) or NOTHING, place, *cells)
    return text_of(lines)


def departures(benchmark: Benchmark, key: str) -> str:
    """The options of fusing in which the default of weights departs from the paper, by name."""
    run = benchmark.as_in_the_paper(key)
    if run is None:
        return ""
    stored = read_config(benchmark.folder / key)["options"]
    others = [name for name, value in run.options.items() if stored.get(name) != value]
    return ", ".join([name.replace("_", " ") for name in others] + ["stretch"] * run.stretch)


def main_run(figures: Sequence[Figure], key: str) -> list[Figure]:
    """The figures that speak for a model: those of its first test set, with the stored options.

    One column, one protocol: no stretched results and no other protocol stand beside the rest.
    """
    runs = _runs_of(figures, key)
    usual = ("", "cddfuse", "no")
    alike = (run for run in runs if (run[0].options, run[0].protocol, run[0].stretch) == usual)
    return next(alike, [])


def weights_index(benchmark: Benchmark, figures: Sequence[Figure], cards: str) -> str:
    """Every published weight file: paper, size, licence, origin, and figures beside the paper's."""
    lines = row("weights", "paper", "size", "licence", "origin", "measured on", "paper / ours")
    lines += row(*["---"] * 2, "---:", *["---"] * 4)
    for key, cfg in sorted(weights_table().items()):
        facts = [card_link(key, cards), paper_of(key), count(cfg.size, "B")]
        place, values = _main_figures(benchmark, figures, key)
        lines += row(*facts, cfg.weights_licence, cfg.origin, place, values)
    return text_of(lines)


def paper_of(key: str) -> str:
    """A link to the paper behind a model or its weights, and the paper's year."""
    model = entry_of(key)
    return f"{link(model.title, model.paper)}, {model.year}"


def entry_of(key: str) -> ModelEntry:
    """The model that weights are of."""
    return MODELS[split_key(key)[0]]


def title(benchmark: Benchmark, name: str) -> str:
    """What tables call a test set."""
    return benchmark.sets[name].title if name in benchmark.sets else name


def direction(protocol: str, metric: str) -> bool | None:
    """Whether a higher value is better; None where that is not known."""
    found = get_protocol(protocol).metrics.get(metric)
    return found.higher_is_better if found else None


def facts_table(benchmark: Benchmark, key: str) -> str:
    """The facts of published weights, and the options that the model is made with.

    Raises:
        InputError: no such weights in the table.
        FileNotFoundError: their folder, beside the benchmark file, has no ``benchmark.json``.
    """
    cfg = published(key)
    options = read_config(benchmark.folder / key)["options"]
    facts = {
        "paper": paper_of(key),
        "inputs": ", ".join(entry_of(key).modalities_of(key)),
        "file": f"`{WEIGHTS_NAME}`, {count(cfg.size, 'B')} ({cfg.size:,} bytes)",
        "sha256": f"`{cfg.sha256}`",
        "parameters": f"{cfg.parameters:,}",
        "origin": cfg.origin,
        "training data": cfg.training_data,
        "licence of the weights": cfg.weights_licence,
        "licence of the code": cfg.code_licence,
        "commit of the training": f"`{cfg.commit}`" if cfg.commit else "",
        "place on the hub": f"`{cfg.hub_repo}` at `{cfg.hub_revision}`" if cfg.hub_repo else "",
        "options": ", ".join(f"`{name}` {json.dumps(value)}" for name, value in options.items()),
    }
    lines = row("", "") + row("---", "---")
    for name, fact in facts.items():
        if fact:
            lines += row(name, fact)
    return text_of(lines)


def published(key: str) -> WeightsCfg:
    """The entry of published weights.

    Raises:
        InputError: no such weights in the table.
    """
    cfg = weights_table().get(key)
    if cfg is None:
        raise InputError(
            f"there are no published weights called {key!r}; enter them with "
            f"`python tools/ship.py {key}`"
        )
    return cfg


def row(*cells: str) -> list[str]:
    """A table's line, as a list to be added to others."""
    return ["| " + " | ".join(cells) + " |"]


def text_of(lines: Iterable[str]) -> str:
    """Lines as text that ends in a line break."""
    return "\n".join(lines) + "\n"


def raised(number: int) -> str:
    """A number as a footnote's mark."""
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def count(value: float, of: str = "") -> str:
    """A number of things, or of bytes, in three digits: ``262 k``, ``1.05 MB``."""
    power = 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_UNITS[power]}{of}".strip()


def link(text: str, to: str) -> str:
    """A link; a bar in its text would end a table's cell."""
    return f"[{text.replace('|', '-')}]({to})"


def _main_figures(benchmark: Benchmark, figures: Sequence[Figure], key: str) -> tuple[str, str]:
    """Where a model's main figures were measured, and they as ``EN 7.25 / 7.00``.

    They are those of the first run whose values its paper printed; without any such run the
    first one's, of the metrics that the table of models shows.
    """
    runs = _runs_of(figures, key)
    if not runs:
        return NOTHING, NOTHING
    compared = [[figure for figure in run if PAPER in figure.printed] for run in runs]
    first = [figure for figure in runs[0] if figure.metric in benchmark.summary]
    chosen = next(filter(None, compared), first)
    values = []
    for figure in chosen:
        digits = decimals([figure.ours or 0.0])
        pair = (figure.printed.get(PAPER), figure.ours)
        values.append(f"{figure.metric} {' / '.join(shown(value, digits) for value in pair)}")
    return _measured_on(benchmark, (chosen or runs[0])[0]), ", ".join(values) or NOTHING


def _runs_of(figures: Sequence[Figure], key: str) -> list[list[Figure]]:
    """The figures of the usual runs of a model, in the order of the benchmark files."""
    own = [figure for figure in figures if figure.model == key and figure.table == MAIN]
    return [list(run) for _, run in groupby(own, lambda figure: figure.key)]


def _measured_on(benchmark: Benchmark, figure: Figure) -> str:
    return f"{title(benchmark, figure.set)}, `{figure.protocol}`"


def card_link(key: str, cards: str) -> str:
    """A link to the card of weights."""
    return link(f"`{key}`", str(PurePosixPath(cards, key, CARD_NAME)))


def _model_cells(key: str, cfg: WeightsCfg | None, cards: str) -> list[str]:
    if cfg is None:
        return [f"`{key}`", paper_of(key), NOTHING, "none yet", NOTHING]
    sizes = [count(cfg.parameters), count(cfg.size, "B")]
    return [card_link(key, cards), paper_of(key), *sizes, cfg.weights_licence]
