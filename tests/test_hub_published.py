"""Published weights that are not on the machine: fetched by the real client, and verified."""

import json

import pytest
import torch
from hub_helpers import (
    FACTS,
    KEY,
    NAME,
    blobs,
    damage,
    flipped,
    publish,
    same_weights,
    small_model,
    use_server,
)
from hub_server import Faults, HubServer

import fusionzoo
from fusionzoo import weights, zoo
from fusionzoo.cli import main
from fusionzoo.cli.listing import model_rows
from fusionzoo.weights import CONFIG_NAME, WEIGHTS_NAME


@pytest.fixture
def server():
    with HubServer() as server:
        yield server


@pytest.fixture
def cache(monkeypatch, server, tmp_path):
    return use_server(monkeypatch, server, tmp_path / "hf")


@pytest.fixture
def table(monkeypatch, tmp_path):
    table = tmp_path / "weights.json"
    monkeypatch.setattr(weights.table, "_TABLE", table)
    monkeypatch.setenv("FUSIONZOO_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return table


@pytest.fixture
def cfg(server, cache, table, tmp_path):
    return publish(server, tmp_path / "made", table)


def snapshot(cache):
    (folder,) = (cache / f"models--{NAME.replace('/', '--')}" / "snapshots").iterdir()
    return folder


def test_weights_that_are_nowhere_here_come_from_the_hub(server, cfg):
    assert (cfg.hub_repo, cfg.hub_revision) == (NAME, f"v{fusionzoo.__version__}")
    loaded = fusionzoo.load(KEY)
    assert same_weights(loaded, small_model())
    assert not loaded.training
    assert server.asked("GET", "/store/") == [f"/store/{cfg.sha256}"]
    assert server.asked("HEAD", f"/resolve/{cfg.hub_revision}/{CONFIG_NAME}")


def test_options_are_options_and_not_the_hubs(cfg):
    assert fusionzoo.load(KEY, rule="sum").options["rule"] == "sum"
    with pytest.raises(ValueError, match="no option 'revision'"):
        fusionzoo.load(KEY, revision="main")


def test_what_is_cached_is_loaded_without_asking(server, cfg):
    fusionzoo.load(KEY)
    asked = len(server.requests)
    assert same_weights(fusionzoo.load(KEY), small_model())
    assert len(server.requests) == asked


def test_what_is_on_the_machine_is_taken_before_the_hub(server, cfg, tmp_path):
    small_model().save_pretrained(tmp_path / "home" / KEY)
    fusionzoo.load(KEY)
    assert server.requests == []


def test_the_hash_decides_whatever_the_tag_names(server, cfg, tmp_path):
    other = small_model(7).save_pretrained(tmp_path / "other")
    server.add(NAME, {WEIGHTS_NAME: (other / WEIGHTS_NAME).read_bytes()})
    server.repositories[NAME].tags[cfg.hub_revision] = server.repositories[NAME].branches["main"]
    found = weights.sha256_of(other / WEIGHTS_NAME)
    with pytest.raises(ValueError, match=f"{cfg.sha256}, found {found}.*Update fusionzoo"):
        fusionzoo.load(KEY)
    with pytest.raises(ValueError, match="not the published file"):
        fusionzoo.load(KEY)


def test_a_tag_that_moves_back_is_followed(server, cfg, tmp_path):
    repository = server.repositories[NAME]
    good = repository.tags[cfg.hub_revision]
    other = small_model(7).save_pretrained(tmp_path / "other")
    repository.tags[cfg.hub_revision] = repository.commit(
        {WEIGHTS_NAME: (other / WEIGHTS_NAME).read_bytes()}
    )
    server.store[weights.sha256_of(other / WEIGHTS_NAME)] = (other / WEIGHTS_NAME).read_bytes()
    with pytest.raises(ValueError, match="not the published file"):
        fusionzoo.load(KEY)
    repository.tags[cfg.hub_revision] = good
    assert same_weights(fusionzoo.load(KEY), small_model())


def test_other_options_in_the_config_are_refused(server, cfg, tmp_path):
    config = json.loads((tmp_path / "made" / CONFIG_NAME).read_text())
    config["options"]["rule"] = "sum"
    server.add(NAME, {CONFIG_NAME: json.dumps(config).encode()}, tag=cfg.hub_revision)
    with pytest.raises(ValueError, match=r"config\.json has other options"):
        fusionzoo.load(KEY)


def test_bytes_that_change_on_the_way_are_refused_and_then_forgotten(server, cache, cfg):
    server.faults = Faults(change=flipped)
    with pytest.raises(ValueError, match=r"not the published file.*models--fusionzoo--didfuse"):
        fusionzoo.load(KEY)
    # Asked twice: the first copy might have been damaged in the cache alone.
    assert len(server.asked("GET", "/store/")) == 2
    server.faults = Faults()
    assert same_weights(fusionzoo.load(KEY), small_model())


@pytest.mark.parametrize("change", [flipped, lambda data: data[:-9], lambda data: b""])
def test_a_cached_file_that_is_damaged_is_fetched_again(server, cache, cfg, change):
    fusionzoo.load(KEY)
    damage(snapshot(cache), change)
    assert same_weights(fusionzoo.load(KEY), small_model())
    weights.verify(snapshot(cache) / WEIGHTS_NAME, cfg)
    assert len(server.asked("GET", "/store/")) == 2


@pytest.mark.parametrize("text", [b"", b'{"format', b'{"format": 1, "model": "x", "options": {}}'])
def test_a_cached_config_that_is_damaged_is_fetched_again(cache, cfg, text):
    fusionzoo.load(KEY)
    damage(snapshot(cache), lambda data: text, CONFIG_NAME)
    assert same_weights(fusionzoo.load(KEY), small_model())


def test_a_damaged_cached_file_offline_says_how_to_be_rid_of_it(monkeypatch, cache, cfg):
    from huggingface_hub import constants

    fusionzoo.load(KEY)
    damage(snapshot(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"allow the network.*delete .*models--fusionzoo--didfuse"):
        fusionzoo.load(KEY)


def test_a_damaged_cached_file_and_no_hub_says_both(server, cache, cfg):
    fusionzoo.load(KEY)
    damage(snapshot(cache))
    server.faults = Faults(status=503)
    with pytest.raises(ConnectionError, match=r"not the published file.*answered 503.*delete "):
        fusionzoo.load(KEY)


def test_offline_and_not_cached_is_explained(monkeypatch, server, cfg):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"HF_HUB_OFFLINE=1.*FUSIONZOO_HOME") as caught:
        fusionzoo.load(KEY)
    assert str(cfg.hub_revision) in str(caught.value)
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE=1"):
        fusionzoo.from_pretrained(KEY)
    assert server.requests == []


def test_local_files_only_asks_nobody(server, cfg):
    with pytest.raises(FileNotFoundError, match="local_files_only=True forbids"):
        fusionzoo.from_pretrained(KEY, local_files_only=True)
    assert server.requests == []
    fusionzoo.load(KEY)
    asked = len(server.requests)
    assert same_weights(fusionzoo.from_pretrained(KEY, local_files_only=True), small_model())
    assert len(server.requests) == asked


def test_another_cache_folder(server, cache, cfg, tmp_path):
    fusionzoo.from_pretrained(KEY, cache_dir=tmp_path / "mine")
    assert blobs(tmp_path / "mine")
    assert not cache.exists()


def test_published_weights_have_no_other_revision(cfg):
    with pytest.raises(ValueError, match=r"revision='main'.*repository of the hub only"):
        fusionzoo.from_pretrained(KEY, revision="main")


def test_a_download_that_is_cut_leaves_nothing_that_loads(server, cache, cfg):
    server.faults = Faults(cut=cfg.size // 2)
    with pytest.raises(ConnectionError, match="could not be transferred"):
        fusionzoo.load(KEY)
    assert not (snapshot(cache) / WEIGHTS_NAME).exists()
    server.faults = Faults()
    assert same_weights(fusionzoo.load(KEY), small_model())


def test_a_download_that_stalls_ends(monkeypatch, server, cache, cfg):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    server.faults = Faults(stall_after=100)
    with pytest.raises(ConnectionError, match="try again"):
        fusionzoo.load(KEY)
    assert not (snapshot(cache) / WEIGHTS_NAME).exists()


@pytest.mark.parametrize(
    ("status", "kind", "problem"),
    [
        (500, ConnectionError, "answered 500"),
        (503, ConnectionError, "answered 503"),
        (403, PermissionError, "denies access"),
    ],
)
def test_errors_of_the_hub_are_told(server, cfg, status, kind, problem):
    server.faults = Faults(status=status)
    with pytest.raises(kind, match=f"{NAME}.*{problem}.*FUSIONZOO_HOME"):
        fusionzoo.load(KEY)


def test_a_repository_that_does_not_exist(server, cfg):
    del server.repositories[NAME]
    with pytest.raises(FileNotFoundError, match=f"{NAME}.*no such repository.*FUSIONZOO_HOME"):
        fusionzoo.load(KEY)


def test_a_tag_that_does_not_exist(server, cfg):
    server.repositories[NAME].tags.clear()
    with pytest.raises(FileNotFoundError, match=f"{NAME}@{cfg.hub_revision}.*no such revision"):
        fusionzoo.load(KEY)


def test_a_hub_that_is_not_there(server, cfg):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=r"check the connection.*HF_ENDPOINT"):
        fusionzoo.load(KEY)


def test_a_cache_that_cannot_be_written_is_explained(cfg, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"file.*cache_dir=.*HF_HUB_CACHE"):
        fusionzoo.from_pretrained(KEY, cache_dir=tmp_path / "file")


# What is here and what is not -------------------------------------------------------------------


def test_list_tells_what_is_here_and_what_would_be_downloaded(server, cache, cfg, tmp_path, capsys):
    (row,) = model_rows(pretrained=True)
    assert (row["name"], row["weights"], row["bytes"]) == (KEY, "hub", cfg.size)
    assert row["hub"] == f"hf://{NAME}@{cfg.hub_revision}"
    assert row["path"] is None
    assert fusionzoo.list_models(pretrained=True) == [KEY]
    assert main(["list", "--pretrained"]) == 0
    assert f"1 to be downloaded on first use, {cfg.size / 1000:.3g} kB" in capsys.readouterr().out
    assert server.requests == []

    fusionzoo.load(KEY)
    (row,) = model_rows(pretrained=True)
    assert row["weights"] == "cached"
    assert row["path"] == str(snapshot(cache) / WEIGHTS_NAME)
    assert main(["list", "--pretrained"]) == 0
    assert "downloaded" not in capsys.readouterr().out

    small_model().save_pretrained(tmp_path / "home" / KEY)
    (row,) = model_rows(pretrained=True)
    assert row["weights"] == "local"
    assert row["path"] == str(tmp_path / "home" / KEY / WEIGHTS_NAME)


# The table --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", weights.weights_table())
def test_every_published_weight_has_a_place_on_the_hub(key):
    cfg = weights.weights_table()[key]
    assert cfg.hub_repo == f"fusionzoo/{key}"
    assert cfg.hub_revision
    assert weights.parse_address(f"{cfg.hub_repo}@{cfg.hub_revision}")
    config = weights.read_config(zoo._published_folder(key, cfg))
    assert cfg.config_sha256 == weights.table.config_digest(config)


def test_the_tag_follows_the_version_where_weights_change(monkeypatch, tmp_path):
    table = tmp_path / "weights.json"
    folder = small_model().save_pretrained(tmp_path / "model")
    weights.update_weights_table("didfuse.x", folder, table=table, **FACTS)
    monkeypatch.setattr(weights.table, "__version__", "9.0")
    same = weights.update_weights_table("didfuse.x", folder, table=table)
    assert same.hub_revision == f"v{fusionzoo.__version__}"
    small_model(3).save_pretrained(folder)
    changed = weights.update_weights_table("didfuse.x", folder, table=table)
    assert changed.hub_revision == "v9.0"
    assert (
        weights.update_weights_table("didfuse.x", folder, table=table, hub_repo=None).hub_repo
        is None
    )


def test_a_config_is_known_by_its_options_not_its_version_or_line_ends():
    digest = weights.table.config_digest
    config = weights.make_config("didfuse", {"channels": 4, "rule": "sum"})
    other = {**config, "options": {"rule": "sum", "channels": 4}, "fusionzoo_version": "9.0"}
    assert digest(config) == digest(other)
    assert digest(config) != digest({**config, "model": "coconet"})
    assert digest(config) != digest({**config, "options": {"channels": 4}})


def test_a_local_folder_with_other_options_is_refused_by_name(cfg, tmp_path):
    folder = small_model().save_pretrained(tmp_path / "home" / KEY)
    config = json.loads((folder / CONFIG_NAME).read_text())
    config["options"]["rule"] = "sum"
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json has other options.*by its path"):
        fusionzoo.load(KEY)
    assert fusionzoo.load(folder).options["rule"] == "sum"


def test_a_fetched_model_fuses(cfg):
    image = torch.rand(33, 40)
    assert fusionzoo.load(KEY).fuse(image, image.flip(0)).shape == image.shape
