"""The leaderboard: measured and quoted values side by side, and told apart."""

from dataclasses import replace
from pathlib import Path

import leaderboard
import pytest
from results_helpers import FIGURES, made_benchmark
from runs import read_benchmark

ROOT = Path(__file__).resolve().parent.parent
HEAD = "set,pairs,method,EN,SD,SF,MI,SCD,VIF,Qabf,SSIM,note,source\n"


@pytest.fixture
def benchmark(tmp_path):
    (tmp_path / "docs").mkdir()
    line = "near,7,Peer,7.5,40,,,,0.8,,,stretched,Table 1 of a paper\n"
    (tmp_path / "docs" / "peers.csv").write_text(HEAD + line, encoding="utf-8")
    return made_benchmark(tmp_path)


def test_quoted_lines_name_their_source_and_note(benchmark):
    text = leaderboard.leaderboard_table(benchmark, FIGURES, "../checkpoints")
    assert text.startswith("### Near\n")
    lines = text.splitlines()
    assert "| from |" in lines[2]
    # The highest VIF comes first; ours has none here. Quoted values keep their digits.
    assert lines[4] == (
        "| *Peer* | 7 | 7.5 | 40 | – | – | – | 0.8 | – | – | stretched "
        "| Table 1 of a paper, quoted |"
    )
    assert lines[5].startswith("| [`didfuse`](../checkpoints/didfuse/README.md) | 25 | 7.000 |")
    assert lines[5].endswith("| – | measured |")


def test_only_one_protocol_and_the_usual_options(benchmark):
    others = [replace(FIGURES[0], protocol="tang"), replace(FIGURES[0], stretch="yes", ours=1.0)]
    found = leaderboard.entries(benchmark, [*FIGURES, *others])["near"]
    ours = [(line.method, line.note, line.values.get("EN")) for line in found if not line.quoted]
    assert ours == [("didfuse", "", 7.0), ("didfuse", "stretched", 1.0)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("near,7,Peer,7.5,40,,,,0.8,,,,", "line 2: a printed value needs a source"),
        ("near,7,Peer,x,40,,,,0.8,,,,A paper", "line 2: ValueError"),
        ("neer,7,Peer,7,40,,,,0.8,,,,A paper", "no such test set: neer"),
    ],
)
def test_errors_of_printed_values_say_where(benchmark, line, message):
    path = benchmark.folder.parent / "docs" / "peers.csv"
    path.write_text(f"{HEAD}{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        leaderboard.entries(benchmark, FIGURES)


def test_committed_values_have_sources_and_lie_in_range():
    read_benchmark(ROOT / "checkpoints")
    found = leaderboard.peers(ROOT / "docs" / "peers.csv")
    assert len({(line.set, line.method, line.source) for line in found}) == len(found)
    for line in found:
        assert 0 < line.values["VIF"] < 2
        assert 0 < line.values.get("Qabf", 0.5) < 1


def test_the_picture_has_every_method_and_both_colours():
    pytest.importorskip("matplotlib")
    import leaderboard_plot

    svg = leaderboard_plot.leaderboard_svg()
    for word in (">lapnet<", ">SFDFuse<", *leaderboard_plot.COLOURS.values()):
        assert word in svg
    assert svg == leaderboard_plot.leaderboard_svg(), "the same bytes each time"
