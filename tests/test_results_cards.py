"""Cards: header and facts are generated, whatever the table of weights holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cards import (
    TO_WRITE,
    begin_card,
    header_of,
    hub_header_of,
    is_begun,
    refreshed,
    stale_documents,
    with_header,
    write_documents,
)
from evaluate_helpers import small_model
from figures import figures_text, read_figures
from overviews import weights_index
from results_helpers import FIGURES, WEIGHTS, made_benchmark, publish
from runs import read_benchmark

from fusionzoo import weights
from fusionzoo.models import MODELS

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
PUBLISHED = weights.weights_table()


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    publish(monkeypatch)
    benchmark = made_benchmark(tmp_path)
    benchmark.results.write_text(figures_text(FIGURES, benchmark.printed_names), encoding="utf-8")
    small_model().save_pretrained(benchmark.folder / "didfuse", card="# Card\n")
    return benchmark


def card_of(benchmark) -> Path:
    return benchmark.folder / "didfuse" / "README.md"


# The cards of this repository ---------------------------------------------------------------------


def committed(key: str) -> str:
    return (CHECKPOINTS / key / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", PUBLISHED)
def test_committed_cards_have_their_tables(key):
    for table in ("facts", "results"):
        assert f"<!-- table: {table} {key} -->" in committed(key)


@pytest.mark.parametrize("key", PUBLISHED)
def test_committed_cards_say_a_fact_once(key):
    text = re.sub(r"<!-- table: .*?<!-- end table -->", "", committed(key), flags=re.DOTALL)
    by_hand = text.partition("\n---\n")[2]
    cfg = PUBLISHED[key]
    facts = [cfg.sha256, cfg.commit, cfg.training_data, f"{cfg.parameters:,}", str(cfg.size)]
    assert [fact for fact in facts if fact and fact in by_hand] == []
    assert re.findall(r"^\| (?:licence|origin|commit|sha256|parameters) .*$", by_hand, re.M) == []


@pytest.mark.parametrize("key", PUBLISHED)
def test_committed_cards_have_a_picture_and_its_terms(key):
    (name, caption), *_ = re.findall(
        r"^!\[[^\]]+\]\((\S+\.png)\)\n\n\*(.+?)\*$", committed(key), re.M | re.DOTALL
    )
    assert (CHECKPOINTS / key / name).is_file()
    assert re.search(r"\b(terms|licence)\b", caption)
    for other in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", committed(key)):
        assert (CHECKPOINTS / key / other).is_file()


@pytest.mark.parametrize("key", PUBLISHED)
def test_committed_cards_are_complete_and_do_not_repeat_the_figures(key):
    text = committed(key)
    assert TO_WRITE not in text
    assert yaml.safe_load(text.split("---\n")[1]) == header_of(key)
    assert "model-index" not in text


@pytest.mark.parametrize("key", PUBLISHED)
def test_the_hub_reads_cards(key):
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    benchmark = read_benchmark(CHECKPOINTS)
    figures = read_figures(benchmark.results)
    text = with_header(committed(key), hub_header_of(benchmark, figures, key))
    data = hub.ModelCard(text).data
    assert isinstance(data, hub.ModelCardData)
    assert data.model_name == key
    assert data.library_name == "fusionzoo"
    assert data.pipeline_tag == "image-to-image"
    assert {"image-fusion", key.partition(".")[0]} <= set(data.tags)
    assert data.license == ("mit" if PUBLISHED[key].weights_licence == "MIT" else "other")
    expected = []
    for figure in figures:
        # Not those with options of their own, such as "as in the paper": they are in the card.
        if (figure.model, figure.table, figure.options) == (key, "results", ""):
            how = figure.protocol + (", stretched" if figure.stretch == "yes" else "")
            expected.append((figure.set, f"{figure.metric} ({how})", how, figure.ours))
    assert sorted(expected) == sorted(
        (result.dataset_type, result.metric_name, result.metric_config, result.metric_value)
        for result in data.eval_results
    )
    assert all(result.dataset_name.endswith(" pairs") for result in data.eval_results)


def test_the_committed_index_has_all_weights():
    text = (CHECKPOINTS / "README.md").read_text(encoding="utf-8")
    assert "<!-- table: weights -->" in text
    for key in PUBLISHED:
        assert f"| [`{key}`]({key}/README.md) |" in text


# The header ---------------------------------------------------------------------------------------


def test_a_header_has_licence_tags_and_results(benchmark):
    header = hub_header_of(benchmark, FIGURES, "didfuse")
    assert header.pop("model-index") == [
        {
            "name": "didfuse",
            "results": [
                {
                    "task": {"type": "image-to-image", "name": "Infrared-visible image fusion"},
                    "dataset": {"type": "near", "name": "Near, 25 pairs"},
                    "metrics": [
                        {"type": name.lower(), "name": f"{name} (cddfuse)", "value": value,
                         "config": "cddfuse"}
                        for name, value in (("EN", 7.0), ("SD", 42.125), ("MSE", 2000.0))
                    ],
                }
            ],
        }
    ]  # fmt: skip
    assert header.pop("metrics") == ["en", "sd", "mse"]
    assert header == header_of("didfuse")
    assert header == {
        "license": "cc0-1.0",
        "library_name": "fusionzoo",
        "pipeline_tag": "image-to-image",
        "tags": ["image-fusion", "infrared-visible", "infrared", "visible", "didfuse"],
    }


def test_only_numbers_of_usual_runs_are_in_a_header(benchmark):
    unknown = [replace(figure, ours=None) for figure in FIGURES[:3]]
    assert "model-index" not in hub_header_of(benchmark, [*unknown, *FIGURES[3:]], "didfuse")
    stretched = [replace(figure, stretch="yes") for figure in FIGURES[:1]]
    (result,) = hub_header_of(benchmark, stretched, "didfuse")["model-index"][0]["results"]
    assert result["metrics"][0]["config"] == "cddfuse, stretched"


def test_several_licences_are_another_one(benchmark, monkeypatch):
    mixed = replace(WEIGHTS["didfuse"], weights_licence="MIT; VGG-19 part CC BY 4.0")
    publish(monkeypatch, {"didfuse": mixed})
    header = header_of("didfuse")
    assert header["license"] == "other"
    assert header["license_name"] == "mit-vgg-19-part-cc-by-4.0"


@pytest.mark.parametrize("old", ["", "---\nlicense: wrong\n---\n\n", "---\na: 1\n---\n"])
def test_a_header_is_put_in_place(benchmark, old):
    body = "# Card\n\nA rule:\n\n---\n\nThe end.\n"
    text = with_header(old + body, header_of("didfuse"))
    assert text.endswith("---\n\n" + body)
    assert yaml.safe_load(text.split("---\n")[1]) == header_of("didfuse")
    assert with_header(text, header_of("didfuse")) == text


def test_a_header_without_end_is_refused(benchmark):
    card_of(benchmark).write_text("---\nlicense: mit\n\n# Card\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md: the header between two lines .* has no end"):
        refreshed(benchmark)


def test_only_cards_of_published_weights_get_a_header(benchmark):
    other = benchmark.folder / "mine" / "README.md"
    other.parent.mkdir()
    other.write_text("# Mine\n", encoding="utf-8")
    texts = refreshed(benchmark)
    assert texts[other] == "# Mine\n"
    assert texts[card_of(benchmark)].startswith("---\nlicense: cc0-1.0\n")
    assert texts[benchmark.folder.parent / "README.md"].startswith("# Title\n")


# Facts and index ----------------------------------------------------------------------------------


def test_facts_are_those_of_table_and_config(benchmark):
    card_of(benchmark).write_text("<!-- table: facts didfuse -->\n<!-- end table -->\n")
    write_documents(benchmark)
    text = card_of(benchmark).read_text(encoding="utf-8")
    for line in (
        f"| paper | [{MODELS['didfuse'].title}]({MODELS['didfuse'].paper}), 2020 |",
        "| inputs | infrared, visible |",
        "| file | `model.safetensors`, 1.05 MB (1,049,876 bytes) |",
        f"| sha256 | `{'0123abcd' * 8}` |",
        "| parameters | 261,572 |",
        "| origin | here |",
        "| training data | pairs |",
        "| licence of the weights | CC0-1.0 |",
        "| licence of the code | MIT |",
        f"| commit of the training | `{'fedc' * 10}` |",
    ):
        assert line in text.splitlines()
    assert re.search(r'^\| options \| .*`rule` "average", .*`channels` 4, ', text, re.MULTILINE)
    assert "on the hub" not in text


def test_changed_facts_and_options_make_cards_stale(benchmark, monkeypatch):
    card_of(benchmark).write_text("<!-- table: facts didfuse -->\n<!-- end table -->\n")
    write_documents(benchmark)
    assert stale_documents(benchmark) == []
    at = {"hub_repo": "who/what", "hub_revision": "12ab"}
    for changes in ({"sha256": "ff" * 32}, {"weights_licence": "MIT"}, {"commit": None}, at):
        publish(monkeypatch, {"didfuse": replace(WEIGHTS["didfuse"], **changes)})
        assert card_of(benchmark) in stale_documents(benchmark), changes
    publish(monkeypatch)
    small_model(gain=1.25).save_pretrained(benchmark.folder / "didfuse", card="")
    card_of(benchmark).write_text("<!-- table: facts didfuse -->\n<!-- end table -->\n")
    write_documents(benchmark)
    assert "`gain` 1.25" in card_of(benchmark).read_text(encoding="utf-8")


@pytest.mark.parametrize("key", ["unet", "chitnet"])
def test_facts_of_unpublished_weights_are_refused(benchmark, key):
    card_of(benchmark).write_text(f"<!-- table: facts {key} -->\n<!-- end table -->\n")
    with pytest.raises(ValueError, match=f"no published weights called '{key}'; enter them"):
        refreshed(benchmark)


def test_facts_need_the_config(benchmark):
    card_of(benchmark).write_text("<!-- table: facts didfuse -->\n<!-- end table -->\n")
    (benchmark.folder / "didfuse" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        refreshed(benchmark)


def index_line(benchmark, figures) -> str:
    (line,) = weights_index(benchmark, figures, ".").splitlines()[2:]
    return line


def test_the_index_has_paper_and_ours(benchmark):
    line = index_line(benchmark, FIGURES)
    assert line.startswith("| [`didfuse`](didfuse/README.md) | [DIDFuse: ")
    assert line.endswith(
        "| 1.05 MB | CC0-1.0 | here | Near, `cddfuse` | EN 7.250 / 7.000, SD 40.50 / 42.12 |"
    )


def test_the_index_prefers_runs_that_the_paper_has_values_for(benchmark):
    first = [replace(figure, protocol="tang", printed={}) for figure in FIGURES[:3]]
    assert "EN 7.250 / 7.000" in index_line(benchmark, [*first, *FIGURES])
    assert index_line(benchmark, first).endswith("| Near, `tang` | SD – / 42.12, MSE – / 2000 |")
    assert index_line(benchmark, FIGURES[3:]).endswith("| here | – | – |")


# The first text of a card -------------------------------------------------------------------------


def test_a_new_card_has_every_table(benchmark):
    (benchmark.folder / "didfuse" / "README.md").write_text("written by save_pretrained\n")
    assert not is_begun(benchmark, "didfuse")
    assert begin_card(benchmark, "didfuse") == card_of(benchmark)
    write_documents(benchmark)
    text = card_of(benchmark).read_text(encoding="utf-8")
    assert text.startswith("---\nlicense: cc0-1.0\n")
    assert "# DIDFuse\n" in text
    assert "written by save_pretrained" not in text
    for part in ("| sha256 |", "delta to paper", "| channel attention | rule |", "](pairs.png)"):
        assert part in text
    assert stale_documents(benchmark) == []
    assert is_begun(benchmark, "didfuse")


def test_new_cards_of_medical_weights(monkeypatch, benchmark):
    publish(monkeypatch, {"coconet.medical": PUBLISHED["coconet.medical"]})
    (benchmark.folder / "coconet.medical").mkdir()
    text = begin_card(benchmark, "coconet.medical").read_text(encoding="utf-8")
    assert "# CoCoNet medical\n" in text
    assert '.load("coconet.medical").fuse("functional.png", "mri.png")' in text
    assert "![functional, mri, fused](pairs.png)" in text


def test_new_cards_need_published_weights(benchmark):
    with pytest.raises(ValueError, match="no published weights called 'chitnet'"):
        begin_card(benchmark, "chitnet")


# Fingerprints -------------------------------------------------------------------------------------


def test_fingerprints_are_of_weights_and_options(tmp_path):
    folder = small_model().save_pretrained(tmp_path / "model")
    first = weights.fingerprint(folder)
    assert re.fullmatch(r"[0-9a-f]{16}", first)
    assert weights.fingerprint(folder, gain=9.0) != first
    stored = weights.read_config(folder)["options"]
    assert weights.fingerprint(folder, **stored) == first

    path = folder / "config.json"
    benchmark = json.loads(path.read_text())
    turned = {"fusionzoo_version": "9", **benchmark, "options": dict(reversed(stored.items()))}
    path.write_text(json.dumps(turned))
    assert weights.fingerprint(folder) == first
    path.write_text(json.dumps({**benchmark, "options": {**stored, "gain": 9.0}}))
    assert weights.fingerprint(folder) == weights.fingerprint(folder, gain=9.0) != first
    path.write_text(json.dumps(benchmark))
    (folder / "model.safetensors").write_bytes(b"other")
    assert weights.fingerprint(folder) != first


def test_packaged_folders(tmp_path, monkeypatch):
    folder = small_model().save_pretrained(tmp_path / "didfuse")
    assert weights.packaged_folder("didfuse") not in (None, folder)
    monkeypatch.setenv("FUSIONZOO_HOME", str(tmp_path))
    assert weights.packaged_folder("didfuse") == folder
    assert weights.packaged_folder("unet") is None
