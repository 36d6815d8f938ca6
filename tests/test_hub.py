"""The Hugging Face hub: published weights that are not here, and anyone's models, by its client.

The client is the real one, set to ask a server of ours.
"""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_helpers import environment
from entries import update_entry
from hub_server import TOKEN, HubServer
from safetensors.torch import save

import fusionzoo
from fusionzoo import weights, zoo
from fusionzoo.cli import main
from fusionzoo.cli.listing import model_rows
from fusionzoo.errors import FileError, InputError, MissingFileError
from fusionzoo.models import MODELS
from fusionzoo.weights import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME

FACTS = {"origin": "a test", "training_data": "none", "weights_licence": "MIT"}
#: Published in the tests, and in no folder of checkpoints.
KEY = "didfuse.far"
PUBLISHED = f"fusionzoo/{KEY}"
#: Anyone's.
NAME = "somebody/night-fusion"


def small_model(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return fusionzoo.create_model("didfuse", channels=4, rule="average")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same_weights(one, other):
    first, second = one.network.state_dict(), other.network.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def flipped(data):
    """The same number of bytes, the last of which differs: still a safetensors file."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.fixture
def server():
    with HubServer() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(monkeypatch, server, tmp_path):
    """Point the client in this process to the server, with a cache of its own; gives the cache.

    The client reads its environment when it is imported: setting variables is too late here.
    """
    from huggingface_hub import constants, file_download

    cache = tmp_path / "hf" / "hub"
    settings = {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(tmp_path / "hf" / "token"),
    }
    for name, value in settings.items():
        # Not every version of the client has all of them, and some have them twice.
        monkeypatch.setattr(constants, name, value, raising=False)
        if hasattr(file_download, name):
            monkeypatch.setattr(file_download, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits before it retries
    monkeypatch.chdir(tmp_path)
    return cache


@pytest.fixture
def offline(monkeypatch):
    from huggingface_hub import constants

    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def table(monkeypatch, tmp_path):
    table = tmp_path / "weights.json"
    monkeypatch.setattr(weights.table, "_TABLE", table)
    monkeypatch.setenv("FUSIONZOO_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return table


@pytest.fixture
def cfg(server, table, tmp_path):
    """A model on the hub and in a table of published weights, not on this machine."""
    made = small_model().save_pretrained(tmp_path / "made")
    cfg = update_entry(KEY, made, table=table, **FACTS)
    server.add(PUBLISHED, files_of(made), tag=cfg.hub_revision)
    return cfg


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return files_of(small_model().save_pretrained(tmp_path_factory.mktemp("made") / "model"))


@pytest.fixture
def repository(server, made):
    return server.add(NAME, made, tag="v1")


def snapshot(cache):
    (folder,) = cache.glob("models--*/snapshots/*")
    return folder


def damage(folder, change=flipped, file=WEIGHTS_NAME):
    """Change a cached file where it really lies."""
    path = Path(os.path.realpath(folder / file))
    path.write_bytes(change(path.read_bytes()))


# Published weights ------------------------------------------------------------------------------


def test_weights_that_are_nowhere_here_come_from_the_hub_once(server, cfg):
    assert (cfg.hub_repo, cfg.hub_revision) == (PUBLISHED, f"v{fusionzoo.__version__}")
    loaded = fusionzoo.load(KEY)
    assert same_weights(loaded, small_model())
    asked = len(server.asked)
    assert fusionzoo.load(KEY, rule="sum").options["rule"] == "sum"
    assert len(server.asked) == asked


def test_what_is_on_the_machine_is_taken_before_the_hub(server, cfg, tmp_path):
    small_model().save_pretrained(tmp_path / "home" / KEY)
    fusionzoo.load(KEY)
    assert server.asked == []


def test_the_hash_decides_whatever_the_tag_names(server, cfg, tmp_path):
    repository = server.repositories[PUBLISHED]
    good = repository.refs[cfg.hub_revision]
    other = small_model(7).save_pretrained(tmp_path / "other") / WEIGHTS_NAME
    server.add(PUBLISHED, {WEIGHTS_NAME: other.read_bytes()}, tag=cfg.hub_revision)
    found = weights.sha256_of(other)
    for _ in range(2):
        with pytest.raises(InputError, match=f"{cfg.sha256}, found {found}.*Update fusionzoo"):
            fusionzoo.load(KEY)
    repository.refs[cfg.hub_revision] = good
    assert same_weights(fusionzoo.load(KEY), small_model())


def test_other_options_in_the_config_are_refused(server, cfg, tmp_path):
    config = json.loads((tmp_path / "made" / CONFIG_NAME).read_text())
    config["options"]["rule"] = "sum"
    server.add(PUBLISHED, {CONFIG_NAME: json.dumps(config).encode()}, tag=cfg.hub_revision)
    with pytest.raises(InputError, match=r"config\.json has another model or other options"):
        fusionzoo.load(KEY)


def test_bytes_that_change_on_the_way_are_refused_and_then_forgotten(server, cfg):
    server.change = lambda data: flipped(data) if len(data) == cfg.size else data
    with pytest.raises(InputError, match=r"not the published file.*delete .*models--fusionzoo"):
        fusionzoo.load(KEY)
    server.change = lambda data: data
    assert same_weights(fusionzoo.load(KEY), small_model())


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (WEIGHTS_NAME, flipped),
        (WEIGHTS_NAME, lambda data: data[:-9]),
        (WEIGHTS_NAME, lambda data: b""),
        (CONFIG_NAME, lambda data: b""),
        (CONFIG_NAME, lambda data: b'{"format": 1, "model": "x", "options": {}}'),
    ],
)
def test_a_cached_file_that_is_damaged_is_fetched_again(cache, cfg, offline, file, change):
    fusionzoo.load(KEY)
    damage(snapshot(cache), change, file)
    assert same_weights(fusionzoo.load(KEY), small_model())
    damage(snapshot(cache), change, file)
    offline()
    with pytest.raises(InputError, match="models--fusionzoo--didfuse"):
        fusionzoo.load(KEY)


def test_what_is_cached_is_enough_offline(server, cfg, offline):
    fusionzoo.load(KEY)
    offline()
    asked = len(server.asked)
    assert same_weights(fusionzoo.load(KEY), small_model())
    assert len(server.asked) == asked


def test_offline_and_not_cached_is_explained(server, cfg, offline):
    with pytest.raises(MissingFileError, match=f"{PUBLISHED}@.*local_files_only"):
        fusionzoo.from_pretrained(KEY, local_files_only=True)
    offline()
    for load in (fusionzoo.load, fusionzoo.from_pretrained):
        with pytest.raises(MissingFileError, match=r"HF_HUB_OFFLINE.*FUSIONZOO_HOME") as caught:
            load(KEY)
        assert "\n" not in str(caught.value)
    assert server.asked == []


def test_another_cache_folder(cache, cfg, tmp_path):
    fusionzoo.from_pretrained(KEY, cache_dir=tmp_path / "mine")
    assert list((tmp_path / "mine").rglob(WEIGHTS_NAME))
    assert not cache.exists()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileError, match="HF_HUB_CACHE"):
        fusionzoo.from_pretrained(KEY, cache_dir=tmp_path / "file")


def test_published_weights_have_no_other_revision(cfg):
    with pytest.raises(InputError, match=r"revision='main'.*repository of the hub only"):
        fusionzoo.from_pretrained(KEY, revision="main")
    with pytest.raises(InputError, match="no option 'revision'"):
        fusionzoo.load(KEY, revision="main")


@pytest.mark.parametrize("status", [500, 403])
def test_a_hub_in_trouble_is_told_in_one_line(server, cfg, status):
    server.status = status
    with pytest.raises(OSError, match=rf"{PUBLISHED}.*{status}.*FUSIONZOO_HOME") as caught:
        fusionzoo.load(KEY)
    assert isinstance(caught.value, FileError | MissingFileError)
    assert "\n" not in str(caught.value)


def test_repositories_and_tags_that_do_not_exist(server, cfg):
    server.repositories[PUBLISHED].refs.clear()
    with pytest.raises(MissingFileError, match=f"{PUBLISHED}@{cfg.hub_revision}.*Revision Not"):
        fusionzoo.load(KEY)
    server.repositories.clear()
    with pytest.raises(MissingFileError, match=f"{PUBLISHED}.*Repository Not Found"):
        fusionzoo.load(KEY)


def test_a_hub_that_is_not_there(server, cfg):
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"Check the name, the connection, HF_ENDPOINT"):
        fusionzoo.load(KEY)


def test_list_tells_what_is_here_and_what_would_be_downloaded(server, cache, cfg, tmp_path, capsys):
    (row,) = model_rows(pretrained=True)
    assert (row["name"], row["weights"], row["bytes"]) == (KEY, "hub", cfg.size)
    assert (row["hub"], row["path"]) == (f"hf://{PUBLISHED}@{cfg.hub_revision}", None)
    assert main(["list", "--pretrained"]) == 0
    assert f"1 to be downloaded on first use, {cfg.size / 1000:.3g} kB" in capsys.readouterr().out
    assert server.asked == []

    fusionzoo.load(KEY)
    (row,) = model_rows(pretrained=True)
    assert (row["weights"], row["path"]) == ("cached", str(snapshot(cache) / WEIGHTS_NAME))

    small_model().save_pretrained(tmp_path / "home" / KEY)
    (row,) = model_rows(pretrained=True)
    assert row["weights"] == "local"


LOCAL_ONLY = """
import socket, sys

def refuse(*_, **__):
    raise AssertionError("the network was touched")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
sys.modules["huggingface_hub"] = None
import fusionzoo
from fusionzoo.cli import main
for key in fusionzoo.list_models(pretrained=True):
    folder = fusionzoo.load(key).save_pretrained(sys.argv[1])
    fusionzoo.load(folder)
    fusionzoo.from_pretrained(key)
    fusionzoo.from_pretrained(str(folder))
assert main(["list"]) == 0
"""


def test_local_weights_touch_no_network_and_import_no_client(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", LOCAL_ONLY, str(tmp_path / "saved")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


# Anyone's models --------------------------------------------------------------------------------


def test_an_address_is_loaded(repository):
    loaded = fusionzoo.load(f"hf://{NAME}")
    assert same_weights(loaded, small_model())
    assert loaded.options == small_model().options
    assert not loaded.training
    assert fusionzoo.load(f"hf://{NAME}", rule="sum").options["rule"] == "sum"


def test_from_pretrained_takes_names_addresses_and_folders(repository, tmp_path):
    for way in (NAME, f"hf://{NAME}", f"{NAME}@v1"):
        assert same_weights(fusionzoo.from_pretrained(way, rule="sum"), small_model())
    # What exists is a folder, even where a repository is called the same.
    fusionzoo.create_model("didfuse", channels=8).save_pretrained(tmp_path / NAME)
    assert fusionzoo.from_pretrained(NAME).options["channels"] == 8
    assert fusionzoo.from_pretrained(f"hf://{NAME}").options["channels"] == 4
    with pytest.raises(InputError, match="unknown model 'nightfusion'"):
        fusionzoo.from_pretrained("nightfusion")
    with pytest.raises(MissingFileError, match=r"no folder 'runs/night' here, and hf://runs/n"):
        fusionzoo.from_pretrained("runs/night")
    with pytest.raises(MissingFileError, match=r"last\.ckpt does not exist"):
        fusionzoo.from_pretrained("runs/last.ckpt")


def test_revisions(repository, server):
    old = repository.refs["v1"]
    server.add(NAME, files_of(small_model(3).save_pretrained("newer")))
    assert same_weights(fusionzoo.load(f"hf://{NAME}"), small_model(3))
    assert same_weights(fusionzoo.load(f"hf://{NAME}@v1"), small_model())
    assert same_weights(fusionzoo.from_pretrained(NAME, revision=old), small_model())
    with pytest.raises(MissingFileError, match=f"{NAME}@v9: .*Revision Not Found"):
        fusionzoo.load(f"hf://{NAME}@v9")
    with pytest.raises(InputError, match=r"revision='v2' contradicts"):
        fusionzoo.from_pretrained(f"hf://{NAME}@v1", revision="v2")
    with pytest.raises(InputError, match="repository of the hub only"):
        fusionzoo.from_pretrained("newer", revision="v1")


def test_config_and_weights_are_of_one_commit(repository, server):
    """Somebody uploads a larger model between the two downloads."""
    larger = files_of(fusionzoo.create_model("didfuse", channels=8).save_pretrained("larger"))

    def upload_after_the_config(data):
        if data == repository.commits[repository.refs["v1"]][CONFIG_NAME]:
            server.add(NAME, larger)
        return data

    server.change = upload_after_the_config
    assert fusionzoo.load(f"hf://{NAME}").options["channels"] == 4
    assert fusionzoo.load(f"hf://{NAME}").options["channels"] == 8


def test_the_cache_serves_while_the_hub_is_down_or_forbidden(repository, server, offline):
    fusionzoo.load(f"hf://{NAME}")
    server.status = 503
    assert same_weights(fusionzoo.load(f"hf://{NAME}"), small_model())
    offline()
    assert same_weights(fusionzoo.load(f"hf://{NAME}"), small_model())
    with pytest.raises(MissingFileError, match="HF_HUB_OFFLINE"):
        fusionzoo.load("hf://somebody/else")


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://didfuse",
        "hf://a/b/c",
        "hf://../../etc",
        "hf://a/..",
        "hf://a/b@",
        "hf://a/b@../../x",
        "hf://a b/c",
        "hf://a/b--c",
        "hf:///a/b",
    ],
)
def test_addresses_of_another_form_are_refused(server, text):
    with pytest.raises(InputError, match=r"write hf://owner/name"):
        fusionzoo.load(text)
    assert server.asked == []


def test_a_missing_folder_says_how_the_hub_is_named():
    with pytest.raises(MissingFileError, match="hf://owner/repo"):
        fusionzoo.load(NAME)


def test_private_repositories_need_a_token(repository):
    repository.private = True
    with pytest.raises(MissingFileError, match=r"hf auth login"):
        fusionzoo.from_pretrained(NAME)
    assert same_weights(fusionzoo.from_pretrained(NAME, token=TOKEN), small_model())


def test_no_options_of_models_are_taken_for_those_of_the_hub():
    import inspect

    taken = set()
    for function in (fusionzoo.load, fusionzoo.from_pretrained):
        parameters = inspect.signature(function).parameters.values()
        taken |= {p.name for p in parameters if p.kind != p.VAR_KEYWORD}
    for entry in MODELS.values():
        assert not taken & set(zoo._options_of(entry.model_class()))


# Refused ----------------------------------------------------------------------------------------


def test_pickles_alone_are_refused(server, made):
    server.add(NAME, {CONFIG_NAME: made[CONFIG_NAME], "pytorch_model.bin": pickle.dumps({"w": 1})})
    with pytest.raises(MissingFileError, match=r"no model\.safetensors.*pickled weights are ref"):
        fusionzoo.load(f"hf://{NAME}")
    assert not [path for path in server.asked if path.endswith(".bin")]


def test_a_repository_without_a_model_is_refused(server):
    server.add(NAME, {"README.md": b"hello"})
    with pytest.raises(MissingFileError, match=r"no config\.json.*fusionzoo\.push_to_hub"):
        fusionzoo.load(f"hf://{NAME}")


def test_a_model_of_another_library_is_refused_before_its_weights_come(server, made):
    server.add(NAME, {**made, CONFIG_NAME: b'{"architectures": ["Bert"], "vocab_size": 9}'})
    with pytest.raises(InputError, match=f"hf://{NAME}.*does not describe a fusionzoo model"):
        fusionzoo.load(f"hf://{NAME}")
    assert not [path for path in server.asked if path.endswith(WEIGHTS_NAME)]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": "os.system"}, "is of a model that this version does not have"),
        ({"model": "fusionzoo.models.didfuse.module:DIDFuse"}, "this version does not have"),
        ({"model": ["didfuse"]}, "does not describe a fusionzoo model"),
        ({"options": {"auto_map": "x.py"}}, "options that this version's 'didfuse' does not have"),
        ({"options": {"channels": "rm -rf"}}, "didfuse"),
        ({"options": {"rule": "median"}}, "rule"),
        ({"format": 9}, "of format 9"),
    ],
)
def test_a_config_names_models_and_plain_options_only(server, made, changes, problem):
    config = json.loads(made[CONFIG_NAME])
    options = {**config["options"], **changes.get("options", {})}
    text = json.dumps(config | changes | {"options": options})
    server.add(NAME, {**made, CONFIG_NAME: text.encode()})
    with pytest.raises(InputError, match=problem):
        fusionzoo.load(f"hf://{NAME}")


def test_a_config_cannot_point_to_files_of_the_machine(server):
    config = weights.make_config("coconet", {"vgg_weights": "/etc/passwd"})
    server.add(NAME, {CONFIG_NAME: json.dumps(config).encode(), WEIGHTS_NAME: save({})})
    with pytest.raises(InputError, match="sets vgg_weights, which save_pretrained does not store"):
        fusionzoo.load(f"hf://{NAME}")


# Uploading --------------------------------------------------------------------------------------


def test_what_is_pushed_comes_back(server):
    model = small_model(5)
    address = fusionzoo.push_to_hub(model, NAME, token=TOKEN)
    repository = server.repositories[NAME]
    assert address == f"hf://{NAME}@{repository.refs['main']}"
    (files,) = repository.commits.values()  # one commit for all files
    assert sorted(files) == [CARD_NAME, CONFIG_NAME, WEIGHTS_NAME]
    assert f'fusionzoo.load("hf://{NAME}")' in files[CARD_NAME].decode()
    loaded = fusionzoo.load(address)
    assert same_weights(loaded, model)
    assert loaded.options == model.options


def test_storage_in_half_precision_a_card_and_a_private_repository(server, made):
    fusionzoo.push_to_hub(
        small_model(), NAME, card="my card", dtype=torch.float16, private=True, token=TOKEN
    )
    repository = server.repositories[NAME]
    files = repository.commits[repository.refs["main"]]
    assert files[CARD_NAME] == b"my card"
    assert repository.private
    assert len(files[WEIGHTS_NAME]) < len(made[WEIGHTS_NAME])


def test_a_second_upload_replaces_the_weights_and_keeps_the_card(server):
    fusionzoo.push_to_hub(small_model(1), NAME, card="by hand", token=TOKEN)
    second = fusionzoo.push_to_hub(small_model(2), f"hf://{NAME}", token=TOKEN)
    repository = server.repositories[NAME]
    assert repository.commits[repository.refs["main"]][CARD_NAME] == b"by hand"
    assert same_weights(fusionzoo.load(second), small_model(2))
    fusionzoo.push_to_hub(small_model(2), NAME, card="new", token=TOKEN)
    assert repository.commits[repository.refs["main"]][CARD_NAME] == b"new"


@pytest.mark.parametrize("name", ["night-fusion", "a/b/c", "a b/c", f"{NAME}@v1"])
def test_names_that_cannot_be_pushed_to(server, name):
    with pytest.raises(InputError, match=name):
        fusionzoo.push_to_hub(small_model(), name, token=TOKEN)
    assert server.asked == []


def test_uploads_that_fail_are_explained(server, offline):
    with pytest.raises(OSError, match=r"hf auth login"):
        fusionzoo.push_to_hub(small_model(), NAME)
    assert NAME not in server.repositories
    server.status = 500
    with pytest.raises(OSError, match=f"{NAME}.*500"):
        fusionzoo.push_to_hub(small_model(), NAME, token=TOKEN)
    offline()
    asked = len(server.asked)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE"):
        fusionzoo.push_to_hub(small_model(), NAME, token=TOKEN)
    assert len(server.asked) == asked


def test_a_tag_names_an_upload_and_is_not_moved(server):
    folder = small_model().save_pretrained("model")
    address = weights.upload_folder(folder, NAME, token=TOKEN, tag="v1.0")
    repository = server.repositories[NAME]
    assert repository.refs == {"main": address.revision, "v1.0": address.revision}
    small_model(2).save_pretrained(folder)
    with pytest.raises(FileError, match=r"has a tag v1\.0 already"):
        weights.upload_folder(folder, NAME, token=TOKEN, tag="v1.0")
    assert repository.refs["main"] == address.revision


def test_a_folder_without_a_model_is_not_uploaded(server, tmp_path):
    with pytest.raises(MissingFileError, match=r"config\.json"):
        weights.upload_folder(tmp_path, NAME, token=TOKEN)
    assert server.asked == []
