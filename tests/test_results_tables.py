"""The Markdown: tables between markers are what the CSV gives, here and in this repository."""

from dataclasses import replace
from pathlib import Path

import pytest
from results_helpers import FIGURES, config_file, publish

from fusionzoo import weights
from fusionzoo.benchmark.run import stale_figures
from fusionzoo.cli import main
from fusionzoo.models import MODELS
from fusionzoo.results import (
    figures_text,
    overviews,
    read_config,
    refreshed,
    stale_documents,
    tables,
    write_documents,
)

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "checkpoints" / "benchmark.yaml"


@pytest.fixture
def config(tmp_path):
    config = read_config(config_file(tmp_path))
    config.results.write_text(figures_text(FIGURES, config.printed_names), encoding="utf-8")
    return config


@pytest.fixture
def published(monkeypatch):
    publish(monkeypatch)


def test_committed_tables_are_those_of_the_csv():
    # Stale? `fusionzoo benchmark --tables-only`
    assert stale_documents(read_config(COMMITTED)) == []


def test_committed_figures_are_those_of_the_weights_and_the_benchmark_file():
    # Stale? `fusionzoo benchmark --data DIR`
    config = read_config(COMMITTED)
    trained = {run.model for run in config.runs} & weights.weights_table().keys()
    lines = [line for line in stale_figures(config) if any(f" {key} " in line for key in trained)]
    assert lines == []


def test_committed_readme_has_the_tables():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("models", "results"):
        assert f"<!-- table: {name} -->" in text
    for name in MODELS:
        assert f"`{name}`" in text


def test_results_show_ours_printed_and_delta(config, published):
    readme, card = refreshed(config).values()
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


def test_stretched_results_say_so(config, published):
    spread = [replace(figure, set="far", stretch="yes") for figure in FIGURES[:3]]
    text = tables.results_table(config, [*FIGURES, *spread])
    assert "Near, 25 pairs, protocol `cddfuse`:\n" in text
    assert "far, 25 pairs, protocol `cddfuse`, results stretched to 0…255:\n" in text


def test_comparisons_mark_the_best(config):
    text = tables.comparison_table(config, FIGURES, "rules", "didfuse")
    assert "| channel attention | rule | EN ↑ | SD ↑ | MSE ↓ |" in text
    assert "| none | sum | **7.000** | **42.12** | *2000* |" in text
    assert "| none | average | *6.500* | *30.00* | **1500** |" in text


def test_models_have_facts_and_figures(config, published):
    readme = refreshed(config)[config.path.parents[1] / "README.md"]
    line = next(line for line in readme.splitlines() if line.startswith("| [`didfuse`]"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == "[`didfuse`](checkpoints/didfuse/README.md)"
    assert MODELS["didfuse"].paper in cells[1]
    assert cells[2:] == ["262 k", "1.05 MB", "CC0-1.0", "Near, `cddfuse`", "42.12", "2000"]


def test_models_without_weights_or_figures(config, monkeypatch):
    monkeypatch.setattr(overviews, "weights_table", dict)
    lines = overviews.models_table(config, [], "checkpoints").splitlines()
    (line,) = (line for line in lines if line.startswith("| `didfuse` | [DIDFuse"))
    assert line.endswith("| – | none yet | – | – | – | – |")


def test_only_what_is_between_markers_changes(config, published):
    assert len(write_documents(config)) == 2
    text = (config.path.parents[1] / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n<!-- table: models -->\n\n| model |")
    assert "old" not in text
    assert "|\n\n<!-- end table -->\n\nWords stay.\n\n<!-- table: results -->\n\nNear" in text
    assert text.endswith("<!-- end table -->\n")
    assert stale_documents(config) == []
    assert write_documents(config) == []


def test_stale_documents_are_found(config, published):
    write_documents(config)
    changed = [replace(FIGURES[0], ours=7.1), *FIGURES[1:]]
    config.results.write_text(figures_text(changed, config.printed_names), encoding="utf-8")
    assert {path.name for path in stale_documents(config)} == {"README.md"}
    assert len(stale_documents(config)) == 2


def test_tables_without_figures_say_so(config):
    config.results.unlink()
    card = refreshed(config)[config.path.parent / "didfuse" / "README.md"]
    assert card.count("*Not measured yet.*") == 2


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "<!-- table: result -->",
            "there are models, weights, facts WEIGHTS, results, results MODEL, rules",
        ),
        ("<!-- table: rules coconet -->", "runs no model 'coconet'"),
    ],
)
def test_unknown_tables_are_refused(config, marker, message):
    path = config.path.parents[1] / "README.md"
    path.write_text(f"{marker}\n<!-- end table -->\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md") as error:
        refreshed(config)
    assert message in str(error.value)


@pytest.mark.parametrize("tail", ["", "\n<!-- table: results -->\n<!-- end table -->\n"])
def test_a_marker_without_end_is_refused(config, tail):
    path = config.path.parents[1] / "README.md"
    path.write_text(f"<!-- table: models -->\n{tail}", encoding="utf-8")
    with pytest.raises(ValueError, match="<!-- table: models --> has no <!-- end table -->"):
        refreshed(config)


def test_command_makes_tables_and_checks_them(config, capsys):
    command = ["benchmark", "--config", str(config.path)]
    assert main([*command, "--check"]) == 1
    assert "tables or header are stale" in capsys.readouterr().out
    assert main([*command, "--tables-only"]) == 0
    assert f"wrote {config.path.parents[1] / 'README.md'}" in capsys.readouterr().out
    main([*command, "--check"])
    assert "tables or header are stale" not in capsys.readouterr().out
