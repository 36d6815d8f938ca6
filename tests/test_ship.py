"""``tools/ship.py``: in this repository nothing is stale, and what single steps do and refuse.

tests/test_add_a_paper.py ships whole new weights.
"""

from pathlib import Path

import golden
import pytest
import ship
import yaml
from evaluate_helpers import small_model
from figures import figures_text
from results_helpers import FIGURES, made_benchmark

from fusionzoo import weights
from fusionzoo.errors import InputError

FACTS = {"origin": "here", "training_data": "pairs", "weights_licence": "CC0-1.0"}


def test_nothing_is_stale():
    # tests/test_golden.py holds the outputs against the stored ones.
    assert ship.stale(ship.all_keys(), with_golden=False) == []


def test_every_folder_of_checkpoints_is_published():
    assert ship.all_keys() == sorted(weights.weights_table())


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A benchmark with one model that is not entered yet, and an empty table."""
    benchmark = made_benchmark(tmp_path)
    table = tmp_path / "weights.json"
    table.write_text("{}\n")
    monkeypatch.setattr(ship, "CHECKPOINTS", benchmark.folder)
    monkeypatch.setattr(ship, "TABLE", table)
    monkeypatch.setattr(weights, "weights_table", lambda: weights.table.weights_table(table))
    return benchmark


def test_a_folder_is_written_from_a_run_and_its_card_stays(checkout, tmp_path):
    source = small_model().save_pretrained(tmp_path / "run")
    card = checkout.folder / "didfuse" / weights.CARD_NAME
    text = card.read_text(encoding="utf-8")
    assert ship.write_folder("didfuse", str(source)).startswith("wrote ")
    assert card.read_text(encoding="utf-8") == text
    size = (card.parent / weights.WEIGHTS_NAME).stat().st_size
    assert ship.write_folder("didfuse", str(source)) == ship.AS_IT_WAS
    assert ship.write_folder("didfuse", str(source), half=True).startswith("wrote ")
    assert (card.parent / weights.WEIGHTS_NAME).stat().st_size < size
    with pytest.raises(InputError, match="is of 'didfuse', and not of 'coconet'"):
        ship.write_folder("coconet", str(source))


def test_an_entry_is_written_where_something_has_changed(checkout):
    with pytest.raises(ValueError, match=r"must be one of .* not 'unet'"):
        ship.enter("unet", FACTS)
    with pytest.raises(OSError, match=r"didfuse\.b: no such folder; write it with --from"):
        ship.enter("didfuse.b", FACTS)
    small_model().save_pretrained(checkout.folder / "didfuse")
    with pytest.raises(ValueError, match="also give training_data"):
        ship.enter("didfuse", {"origin": "here", "weights_licence": "MIT"})
    assert ship.enter("didfuse", FACTS).startswith("wrote ")
    assert ship.enter("didfuse", {}) == ship.AS_IT_WAS
    assert weights.weights_table()["didfuse"].origin == "here"
    assert ship.enter("didfuse", {"commit": "abc"}).startswith("wrote ")


def test_new_weights_begin_with_the_usual_sets(checkout):
    assert ship.begin_runs("didfuse") == ship.AS_IT_WAS
    (checkout.folder / "coconet").mkdir()
    assert ship.begin_runs("coconet").startswith("wrote ")
    text = (checkout.folder / "coconet" / "benchmark.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"runs": [{"sets": ["near"]}]}
    (checkout.folder / "coconet.medical").mkdir()
    with pytest.raises(ValueError, match=r"usual_sets of .*'infrared-visible', not 'medical'"):
        ship.begin_runs("coconet.medical")


def test_another_output_of_the_same_weights_is_refused(monkeypatch):
    stored = []
    monkeypatch.setattr(golden, "problem", lambda key: "didfuse: the output differs")
    monkeypatch.setattr(golden, "store", lambda key: stored.append(key) or Path("golden"))
    with pytest.raises(InputError, match=r"output differs.* the code has changed what they make"):
        ship.store_golden("didfuse")
    assert stored == []
    assert ship.store_golden("didfuse", accept=True) == "wrote golden"
    assert stored == ["didfuse"]


def test_runs_to_measure_are_the_stale_ones_of_these_weights(checkout):
    small_model().save_pretrained(checkout.folder / "didfuse")
    assert len(ship.chosen_runs(checkout, ["didfuse"])) == 4
    assert ship.chosen_runs(checkout, ["coconet"], again=True) == []
    (far,) = ship.chosen_runs(checkout, ["didfuse"], sets=["far"])
    assert far.stretch
    with pytest.raises(ValueError, match=r"--sets .*did you mean 'near'"):
        ship.chosen_runs(checkout, ["didfuse"], sets=["neer"])


def test_an_upload_is_what_the_table_says_and_has_the_results(checkout, monkeypatch):
    folder = small_model().save_pretrained(checkout.folder / "didfuse", card="# Card\n")
    checkout.results.write_text(figures_text(FIGURES, checkout.printed_names), encoding="utf-8")
    sent = {}

    def upload_folder(folder, repository, *, message, token, tag):
        sent.update({path.name: path.read_bytes() for path in folder.iterdir()})
        return f"hf://{repository}@{tag}: {message}"

    monkeypatch.setattr(weights, "upload_folder", upload_folder)
    monkeypatch.setattr(ship.cards, "published", lambda key: weights.weights_table()[key])
    with pytest.raises(InputError, match="'didfuse' has no hub_repo"):
        ship.upload(checkout, "didfuse")
    ship.enter("didfuse", {**FACTS, "hub_repo": "who/what", "hub_revision": "v9"})
    told = ship.upload(checkout, "didfuse")
    assert told == "hf://who/what@v9: didfuse, fusionzoo v9"
    assert {"config.json", "model.safetensors", "README.md"} <= set(sent)
    _, header, body = sent["README.md"].decode().split("---\n")
    (index,) = yaml.safe_load(header)["model-index"]
    assert [m["value"] for m in index["results"][0]["metrics"]] == [7.0, 42.125, 2000.0]
    assert body == "\n# Card\n"
    assert (folder / "README.md").read_text(encoding="utf-8") == "# Card\n", "as it was"

    small_model(gain=1.25).save_pretrained(folder, card="# Card\n")
    with pytest.raises(ValueError, match=r"first: python tools/ship\.py didfuse"):
        ship.upload(checkout, "didfuse")


def test_facts_are_of_one_key(capsys):
    with pytest.raises(SystemExit):
        ship.main(["--origin", "here"])
    assert "are of one KEY" in capsys.readouterr().err
