"""Evaluations as files: CSV, JSON, Markdown, plots."""

import csv
import json
import math
import sys

import pytest
from evaluate_helpers import made_up
from PIL import Image

from fusionzoo.evaluation import draw, write_report
from fusionzoo.evaluation.numbers import decimals, shown
from fusionzoo.evaluation.plots import cumulative

VALUES = {
    "one": {"SD": [10.0, 20.0, 36.0], "MSE": [900.0, 1100.0, 1300.0]},
    "two|b": {"SD": [30.0, 40.0, 50.0], "MSE": [1000.0, 1200.0, 1400.0]},
    "three": {"SD": [11.0, 21.0, 31.0], "MSE": [100.0, 200.0, math.nan]},
}


@pytest.fixture
def found():
    return made_up(VALUES, SD=True, MSE=False)


def test_csv_holds_every_image_and_the_means(found, tmp_path):
    write_report(found, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    images = [row for row in rows if row["row"] == "image"]
    assert len(images) == 9
    for row in images:
        value = VALUES[row["method"]]["SD"][int(row["image"].split()[1])]
        assert float(row["SD"]) == value
        assert (row["protocol"], row["stretch"]) == ("cddfuse", "no")
    means = {row["method"]: row for row in rows if row["row"] == "mean"}
    deviations = {row["method"]: row for row in rows if row["row"] == "std"}
    assert float(means["one"]["SD"]) == pytest.approx(22)
    assert float(deviations["two|b"]["SD"]) == pytest.approx(10)
    assert means["three"]["MSE"] == ""
    assert list(rows[0])[-2:] == found.metrics


def test_json_holds_everything(found, tmp_path):
    write_report(found, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
    assert (content["protocol"], content["stretch"]) == ("cddfuse", False)
    assert content["higher_is_better"] == {"SD": True, "MSE": False}
    one, two, three = content["methods"]
    assert one["images"]["image 1"] == {"SD": 20.0, "MSE": 1100.0}
    assert three["images"]["image 2"]["MSE"] is None
    assert two["mean"]["SD"] == pytest.approx(40)
    assert [method["place"] for method in (one, two, three)] == [
        {"SD": 2, "MSE": 1},
        {"SD": 1, "MSE": 2},
        {},
    ]
    assert content["compared"] == ["image 0", "image 1", "image 2"]


def test_markdown_marks_the_best_two(found, tmp_path):
    write_report(found, tmp_path / "out.md")
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert "Protocol cddfuse" in text
    assert "| SD ↑ | *22.00 ± 13.11* | **40.00 ± 10.00** | 21.00 ± 10.00 |" in text
    assert "| MSE ↓ | **1100 ± 200** | *1200 ± 200* | – |" in text
    assert "| image 2 | 36.00 | 1300 |" in text
    assert "two\\|b" in text
    assert "stretched" not in text


def test_latex_is_a_table_for_a_paper(tmp_path):
    values = {
        "one_&%$#{}~^\\": {"MS_SSIM": [0.5, 0.7], "MSE": [1.0, 1.2]},
        "two": {"MS_SSIM": [0.6, 0.2], "MSE": [2.0, math.inf]},
        "three": {"MS_SSIM": [-0.1, -0.3], "MSE": [math.nan, 1.0]},
    }
    write_report(made_up(values, MS_SSIM=True, MSE=False), tmp_path / "out.tex")
    text = (tmp_path / "out.tex").read_text(encoding="utf-8")
    assert r"Method & MS\_SSIM $\uparrow$ & MSE $\downarrow$ \\" in text
    name = r"one\_\&\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert rf"{name} & \textbf{{0.6000}} & \textbf{{1.100}} \\" in text
    assert r"two & \underline{0.4000} & \underline{$\infty$} \\" in text
    assert r"three & $-$0.2000 & -- \\" in text
    assert "Protocol cddfuse" in text
    assert "2 pairs. Best in bold, second best underlined.}" in text
    order = [r"\begin{table}", r"\begin{tabular}{lrr}", r"\toprule", r"\midrule", r"\bottomrule"]
    places = [text.index(part) for part in [*order, r"\end{tabular}", r"\end{table}"]]
    assert places == sorted(places)


def test_latex_of_one_method_marks_nothing(tmp_path):
    write_report(made_up({"one": {"SD": [1.0, 2.0]}}, SD=None), tmp_path / "out.tex")
    text = (tmp_path / "out.tex").read_text(encoding="utf-8")
    assert "textbf" not in text
    assert "Best" not in text
    assert "arrow" not in text


def test_names_that_are_no_text_are_written_out(tmp_path):
    found = made_up({"on\udcffe": {"SD": [1.0, 2.0]}}, SD=True)
    write_report(found, tmp_path / "out.tex")
    for ending in ("csv", "json", "md"):
        write_report(found, tmp_path / f"out.{ending}")
        assert "on\\udcffe" in (tmp_path / f"out.{ending}").read_text()


def test_reports_record_stretching(found, tmp_path):
    spread = type(found)(**{**vars(found), "stretch": True, "problems": ("a: is bad",)})
    for ending in ("csv", "json", "md"):
        write_report(spread, tmp_path / f"out.{ending}")
    assert ",cddfuse,yes," in (tmp_path / "out.csv").read_text()
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["stretch"] is True
    assert content["problems"] == ["a: is bad"]
    assert "stretched to 0…255" in (tmp_path / "out.md").read_text(encoding="utf-8")
    assert "- a: is bad" in (tmp_path / "out.md").read_text(encoding="utf-8")


def test_a_report_is_whole_or_not_there(found, tmp_path, monkeypatch):
    path = tmp_path / "out.csv"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="cannot be written"):
        write_report(found, path)
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "error"), [("out.txt", ValueError), ("nowhere/out.csv", FileNotFoundError)]
)
def test_reports_refuse(found, tmp_path, name, error):
    with pytest.raises(error, match="out"):
        write_report(found, tmp_path / name)


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [([6.862], 3, "6.862"), ([46.87, 9.0], 2, "46.87"), ([0.5931], 4, "0.5931"),
     ([3777.2], 0, "3777"), ([0.0312], 4, "0.0312"), ([math.nan], 4, "–"), ([1.0], 3, "1.000")],
)  # fmt: skip
def test_four_digits_are_shown(values, digits, text):
    assert decimals(values) == digits
    assert shown(values[0], digits) == text


def test_differences_have_a_sign():
    assert shown(-0.25, 2, sign=True) == "−0.25"
    assert shown(0.25, 2, sign=True) == "+0.25"
    assert shown(-0.001, 2, sign=True) == shown(0.001, 2, sign=True) == "0.00"


def test_cumulative_curve():
    shares, values = cumulative([5.0, 1.0, math.nan, 3.0, 2.0])
    assert values == [1.0, 2.0, 3.0, 5.0]
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_plots(found, tmp_path):
    pytest.importorskip("matplotlib")
    draw(found, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        image.load()
        assert image.convert("RGB").getcolors(3) is None  # more than an empty page
    for ending in ("svg", "pdf"):
        for name in ("one", "two"):
            draw(found, tmp_path / f"{name}.{ending}")
        one, two = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one == two
    assert one.startswith(b"%PDF")
    assert b"/Type3" not in one


def test_plots_show_bars_and_curves(found):
    pytest.importorskip("matplotlib")
    from fusionzoo.evaluation.plots import _figure

    figure = _figure(found)
    assert len(figure.axes) == 4
    bars, curves = figure.axes[0], figure.axes[2]
    assert [patch.get_height() for patch in bars.patches] == pytest.approx([22, 40, 21])
    xs, ys = curves.get_lines()[1].get_data()
    assert list(ys) == [30, 40, 50]
    assert list(xs) == pytest.approx([1 / 3, 2 / 3, 1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(VALUES)


def test_plots_without_matplotlib_say_what_to_install(found, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'fusionzoo\[plot\]'"):
        draw(found, tmp_path / "out.png")


def test_plots_refuse(found, tmp_path):
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf"):
        draw(found, tmp_path / "out.gif")
    with pytest.raises(FileNotFoundError, match="make it first"):
        draw(found, tmp_path / "nowhere" / "out.png")
