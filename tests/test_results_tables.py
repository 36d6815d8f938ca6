"""The Markdown: tables between markers are what the CSV gives, here and in this repository."""

import inspect
import json
from dataclasses import replace
from pathlib import Path

import choice
import leaderboard
import overviews
import pytest
import tables
import time_models
import yaml
from cards import hub_header_of, refreshed, stale_documents, write_documents
from figures import figures_text
from results_helpers import FIGURES, RUNS, made_benchmark, publish
from speeds import Speed, speeds_text

import fusionzoo
from fusionzoo.models import MODELS
from fusionzoo.weights import make_config, weights_table

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def benchmark(tmp_path):
    benchmark = made_benchmark(tmp_path)
    benchmark.results.write_text(figures_text(FIGURES, benchmark.printed_names), encoding="utf-8")
    return benchmark


@pytest.fixture
def published(monkeypatch):
    publish(monkeypatch)


@pytest.mark.parametrize(
    ("document", "names"), [("README.md", ["choice"]), ("docs/results.md", ["models", "results"])]
)
def test_committed_documents_have_the_tables(document, names):
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in names:
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
    assert cells[2:] == ["262 k", "1.05 MB", "CC0-1.0", "–", "Near, `cddfuse`", "42.12", "2000"]


def test_lines_as_in_the_paper_stand_beside_the_default_and_say_in_what_it_departs(
    tmp_path, published
):
    own = "{rule: sum, channel_attention: none, gain: 1.0}"
    runs = f"{RUNS}  - sets: [near]\n    label: as in the paper\n    options: {own}\n"
    benchmark = made_benchmark(tmp_path, runs + "    stretch: true\n")
    config = make_config("didfuse", {"rule": "average", "channel_attention": "none", "gain": 1.6})
    (benchmark.folder / "didfuse" / "config.json").write_text(json.dumps(config))
    text = "channel_attention=none gain=1.0 rule=sum"
    paper = [replace(f, options=text, stretch="yes", ours=9.0) for f in FIGURES[:3]]
    table = tables.results_table(benchmark, [*FIGURES, *paper])
    label = "**didfuse** as in the paper (channel attention none, gain 1.0, rule sum)"
    assert f"| {label} | 9.000 | 9.000 | 9.000 |" in table
    alike = [replace(figure, stretch="no") for figure in paper]
    for figures in ([*FIGURES, *alike], [*alike, *FIGURES]):
        text = overviews.models_table(benchmark, figures, "checkpoints")
        line = next(line for line in text.splitlines() if line.startswith("| [`didfuse`]"))
        assert "| rule, gain, stretch | Near, `cddfuse` | 42.12 | 2000 |" in line
        assert [line.values["EN"] for line in leaderboard._ours(figures)] == [7.0]
        header = hub_header_of(benchmark, figures, "didfuse")
        assert [m["value"] for m in header["model-index"][0]["results"][0]["metrics"]] == [
            7.0, 42.125, 2000.0,
        ]  # fmt: skip


def test_models_without_weights_or_figures(benchmark, monkeypatch):
    monkeypatch.setattr(overviews, "weights_table", dict)
    lines = overviews.models_table(benchmark, [], "checkpoints").splitlines()
    (line,) = (line for line in lines if line.startswith("| `didfuse` | [DIDFuse"))
    assert line.endswith("| – | none yet | – | – | – | – | – |")


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
            "choice, leaderboard, models, weights, facts WEIGHTS, ablations WEIGHTS, results",
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


# Which model when ---------------------------------------------------------------------------------


def test_the_choice_names_every_published_key_once_the_default_first():
    named = yaml.safe_load(choice.USES.read_text(encoding="utf-8"))
    assert list(choice.uses()) == [key for key in named if key in weights_table()]
    assert set(choice.uses()) == set(weights_table())
    assert (
        next(iter(choice.uses())) == inspect.signature(fusionzoo.fuse).parameters["model"].default
    )


def test_weights_without_a_use_show_their_task(benchmark, published, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "USES", tmp_path / "uses.yaml")
    choice.USES.write_text("{}")
    lines = choice.choice_table(benchmark, FIGURES, "../checkpoints").splitlines()
    assert lines[0] == "| model | for | parameters | ms | measured on | VIF ↑ | Qabf ↑ |"
    link = "[`didfuse`](../checkpoints/didfuse/README.md)"
    assert lines[2] == f"| {link} | infrared-visible | 262 k | – | Near | – | – |"


def test_times_are_shown_for_the_weights_that_were_timed(benchmark, published, monkeypatch):
    speed = Speed("didfuse", "0" * 16, "640x480", 1234.5, 900, 5, 1, "A processor", "2.13")
    (benchmark.folder / "speed.csv").write_text(speeds_text([speed]), encoding="utf-8")
    assert choice.read_speeds(benchmark.folder) == {"didfuse": speed}
    for weights, cell in (("0" * 16, "1,234"), ("1" * 16, "–")):
        monkeypatch.setattr(choice, "fingerprint", lambda folder, weights=weights: weights)
        text = choice.choice_table(benchmark, FIGURES, "checkpoints")
        assert f"| 262 k | {cell} | Near |" in text
        assert ("Times: A processor, one thread." in text) == (cell != "–")
        assert ("ms for 640×480" in text) == (cell != "–")


def test_speeds_of_two_machines_do_not_mix(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(time_models, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(time_models, "fingerprint", lambda folder: "0" * 16)
    monkeypatch.setattr(time_models.cards, "write_documents", lambda benchmark: [])
    monkeypatch.setattr(time_models, "read_benchmark", lambda folder: None)
    found = {"seconds_median": 0.25, "memory_peak_mb": 300.4, "torch": "2.13", "device_name": "one"}
    monkeypatch.setattr(time_models, "measure_fusing", lambda key, **how: found)
    assert time_models.main(["didfuse", "lapnet"]) == 0
    speeds = choice.read_speeds(tmp_path)
    assert list(speeds) == ["didfuse", "lapnet"]
    assert (speeds["lapnet"].milliseconds, speeds["lapnet"].memory_mb) == (250.0, 300)
    found["device_name"] = "other"
    assert time_models.main(["lapnet"]) == 1
    assert "didfuse was timed on one, one thread, and lapnet on other" in capsys.readouterr().err
    assert choice.read_speeds(tmp_path) == speeds
    assert time_models.main(["didfuse", "lapnet"]) == 0
