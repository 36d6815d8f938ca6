"""The Markdown: tables between markers are what the CSV gives, here and in this repository."""

from dataclasses import replace
from pathlib import Path

import overviews
import pytest
import tables
from cards import refreshed, stale_documents, write_documents
from figures import figures_text
from results_helpers import FIGURES, made_benchmark, publish

from fusionzoo.models import MODELS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def benchmark(tmp_path):
    benchmark = made_benchmark(tmp_path)
    benchmark.results.write_text(figures_text(FIGURES, benchmark.printed_names), encoding="utf-8")
    return benchmark


@pytest.fixture
def published(monkeypatch):
    publish(monkeypatch)


def test_committed_readme_has_the_tables():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("models", "results"):
        assert f"<!-- table: {name} -->" in text
    for name in MODELS:
        assert f"`{name}`" in text


def test_results_show_ours_printed_and_delta(benchmark, published):
    readme, card = refreshed(benchmark).values()
    table = card.split("<!-- end table -->")[0].splitlines()
    assert "Near, 25 pairs, protocol `cddfuse`:" in table
    start = table.index("|  | EN ↑ | SD ↑ | MSE ↓ |")
    assert table[start + 2 : start + 7] == [
        "| **didfuse** | 7.000 | 42.12 | 2000 |",
        "| paper ¹ | 7.250 | 40.50 | – |",
        "| delta to paper | −0.250 | +1.62 | – |",
        "| released weights ² | 6.862 | – | – |",
        "| delta to released weights | +0.138 | – | – |",
    ]
    assert "¹ Table 9 of a paper.  " in table
    assert "² Table 1 of another." in table
    assert "| **didfuse** | 7.000 | 42.12 | 2000 |" in readme


def test_stretched_results_say_so(benchmark, published):
    spread = [replace(figure, set="far", stretch="yes") for figure in FIGURES[:3]]
    text = tables.results_table(benchmark, [*FIGURES, *spread])
    assert "Near, 25 pairs, protocol `cddfuse`:\n" in text
    assert "far, 25 pairs, protocol `cddfuse`, results stretched to 0…255:\n" in text


def test_comparisons_mark_the_best(benchmark):
    text = tables.comparison_table(benchmark, FIGURES, "rules", "didfuse")
    assert "| channel attention | rule | EN ↑ | SD ↑ | MSE ↓ |" in text
    assert "| none | sum | **7.000** | **42.12** | *2000* |" in text
    assert "| none | average | *6.500* | *30.00* | **1500** |" in text


def test_models_have_facts_and_figures(benchmark, published):
    readme = refreshed(benchmark)[benchmark.folder.parent / "README.md"]
    line = next(line for line in readme.splitlines() if line.startswith("| [`didfuse`]"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == "[`didfuse`](checkpoints/didfuse/README.md)"
    assert MODELS["didfuse"].paper in cells[1]
    assert cells[2:] == ["262 k", "1.05 MB", "CC0-1.0", "Near, `cddfuse`", "42.12", "2000"]


def test_models_without_weights_or_figures(benchmark, monkeypatch):
    monkeypatch.setattr(overviews, "weights_table", dict)
    lines = overviews.models_table(benchmark, [], "checkpoints").splitlines()
    (line,) = (line for line in lines if line.startswith("| `didfuse` | [DIDFuse"))
    assert line.endswith("| – | none yet | – | – | – | – |")


def test_only_what_is_between_markers_changes(benchmark, published):
    assert len(write_documents(benchmark)) == 2
    text = (benchmark.folder.parent / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n<!-- table: models -->\n\n| model |")
    assert "old" not in text
    assert "|\n\n<!-- end table -->\n\nWords stay.\n\n<!-- table: results -->\n\nNear" in text
    assert text.endswith("<!-- end table -->\n")
    assert stale_documents(benchmark) == []
    assert write_documents(benchmark) == []


def test_stale_documents_are_found(benchmark, published):
    write_documents(benchmark)
    changed = [replace(FIGURES[0], ours=7.1), *FIGURES[1:]]
    benchmark.results.write_text(figures_text(changed, benchmark.printed_names), encoding="utf-8")
    assert {path.name for path in stale_documents(benchmark)} == {"README.md"}
    assert len(stale_documents(benchmark)) == 2


def test_tables_without_figures_say_so(benchmark):
    benchmark.results.unlink()
    card = refreshed(benchmark)[benchmark.folder / "didfuse" / "README.md"]
    assert card.count("*Not measured yet.*") == 2


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "<!-- table: result -->",
            "models, weights, facts WEIGHTS, ablations WEIGHTS, results, results MODEL, rules",
        ),
        ("<!-- table: rules coconet -->", "there are no runs of 'coconet'"),
    ],
)
def test_unknown_tables_are_refused(benchmark, marker, message):
    path = benchmark.folder.parent / "README.md"
    path.write_text(f"{marker}\n<!-- end table -->\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md") as error:
        refreshed(benchmark)
    assert message in str(error.value)


@pytest.mark.parametrize("tail", ["", "\n<!-- table: results -->\n<!-- end table -->\n"])
def test_a_marker_without_end_is_refused(benchmark, tail):
    path = benchmark.folder.parent / "README.md"
    path.write_text(f"<!-- table: models -->\n{tail}", encoding="utf-8")
    with pytest.raises(ValueError, match="<!-- table: models --> has no <!-- end table -->"):
        refreshed(benchmark)


def test_models_are_compared_by_one_protocol(benchmark, published):
    """A stretched run, or one of another protocol, that comes first does not speak for a model."""
    stretched = [replace(figure, stretch="yes", ours=99.0) for figure in FIGURES[:3]]
    other = [replace(figure, protocol="tang", ours=98.0) for figure in FIGURES[:3]]
    text = overviews.models_table(benchmark, [*stretched, *other, *FIGURES], "checkpoints")
    line = next(line for line in text.splitlines() if line.startswith("| [`didfuse`]"))
    assert "| Near, `cddfuse` | 42.12 | 2000 |" in line
