"""Anyone's models on the hub: loaded, refused, and uploaded."""

import json
import pickle

import pytest
import torch
from cli_helpers import ASSETS
from hub_helpers import blobs, damage, files_of, flipped, same_weights, small_model, use_server
from hub_server import TOKEN, Faults, HubServer
from safetensors.torch import save

import fusionzoo
from fusionzoo import weights, zoo
from fusionzoo.cli import main
from fusionzoo.models import MODELS
from fusionzoo.weights import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME

NAME = "somebody/night-fusion"


@pytest.fixture
def server():
    with HubServer() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(monkeypatch, server, tmp_path):
    monkeypatch.chdir(tmp_path)
    return use_server(monkeypatch, server, tmp_path / "hf")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return files_of(small_model().save_pretrained(tmp_path_factory.mktemp("made") / "model"))


@pytest.fixture
def repository(server, made):
    return server.add(NAME, made, tag="v1")


def config_with(made, **changes):
    config = json.loads(made[CONFIG_NAME])
    config["options"] = {**config["options"], **changes.pop("options", {})}
    return json.dumps({**config, **changes}).encode()


# Loading ----------------------------------------------------------------------------------------


def test_an_address_is_loaded(repository):
    loaded = fusionzoo.load(f"hf://{NAME}")
    assert same_weights(loaded, small_model())
    assert loaded.options == small_model().options
    assert not loaded.training
    assert fusionzoo.load(f"hf://{NAME}", rule="sum").options["rule"] == "sum"


def test_the_command_line_takes_an_address(repository, tmp_path):
    images = [str(ASSETS / f"cli_{side}.png") for side in ("ir", "vi")]
    assert main(["fuse", "--model", f"hf://{NAME}", *images, "-o", "fused.png"]) == 0
    assert (tmp_path / "fused.png").is_file()


def test_from_pretrained_takes_names_addresses_and_folders(repository, made, tmp_path):
    for way in (NAME, f"hf://{NAME}", f"{NAME}@v1"):
        assert same_weights(fusionzoo.from_pretrained(way, rule="sum"), small_model())
    # What exists is a folder, even where a repository is called the same.
    fusionzoo.create_model("didfuse", channels=8).save_pretrained(tmp_path / NAME)
    assert fusionzoo.from_pretrained(NAME).options["channels"] == 8
    assert fusionzoo.from_pretrained(f"hf://{NAME}").options["channels"] == 4
    with pytest.raises(ValueError, match="unknown model 'nightfusion'"):
        fusionzoo.from_pretrained("nightfusion")
    with pytest.raises(FileNotFoundError, match=r"no folder 'runs/night' here, and hf://runs/n"):
        fusionzoo.from_pretrained("runs/night")
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt does not exist"):
        fusionzoo.from_pretrained("runs/last.ckpt")


def test_revisions(repository, server, made):
    newer = files_of(small_model(3).save_pretrained("newer"))
    server.add(NAME, newer)
    old = repository.tags["v1"]
    assert same_weights(fusionzoo.load(f"hf://{NAME}"), small_model(3))
    assert same_weights(fusionzoo.load(f"hf://{NAME}@v1"), small_model())
    assert same_weights(fusionzoo.from_pretrained(NAME, revision=old), small_model())
    with pytest.raises(FileNotFoundError, match=f"{NAME}@v9: .*no such revision"):
        fusionzoo.load(f"hf://{NAME}@v9")
    with pytest.raises(ValueError, match=r"revision='v2' contradicts"):
        fusionzoo.from_pretrained(f"hf://{NAME}@v1", revision="v2")
    with pytest.raises(ValueError, match="repository of the hub only"):
        fusionzoo.from_pretrained("newer", revision="v1")


def test_main_follows_new_uploads_and_a_commit_does_not_ask(repository, server):
    fusionzoo.load(f"hf://{NAME}")
    server.add(NAME, files_of(small_model(3).save_pretrained("newer")))
    assert same_weights(fusionzoo.load(f"hf://{NAME}"), small_model(3))
    commit = repository.branches["main"]
    asked = len(server.requests)
    assert same_weights(fusionzoo.load(f"hf://{NAME}@{commit}"), small_model(3))
    assert len(server.requests) == asked


def test_config_and_weights_are_of_one_commit(repository, server, monkeypatch):
    """Somebody uploads a larger model between the two downloads."""
    larger = files_of(fusionzoo.create_model("didfuse", channels=8).save_pretrained("larger"))
    resolve = type(repository).resolve

    def upload_after_the_config(self, revision):
        found = resolve(self, revision)
        if len(server.asked("GET", CONFIG_NAME)) == 1 and len(self.commits) == 1:
            server.add(NAME, larger)
        return found

    monkeypatch.setattr(type(repository), "resolve", upload_after_the_config)
    assert fusionzoo.load(f"hf://{NAME}").options["channels"] == 4
    assert len(repository.commits) == 2
    assert fusionzoo.load(f"hf://{NAME}").options["channels"] == 8


def test_a_repository_that_has_moved_is_followed(repository, server):
    server.repositories["somebody/old"] = type(repository)(moved_to=NAME)
    assert same_weights(fusionzoo.load("hf://somebody/old"), small_model())


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://didfuse",
        "hf://a/b/c",
        "hf://models/a/b",
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
    with pytest.raises(ValueError, match=r"write hf://owner/name"):
        fusionzoo.load(text)
    assert server.requests == []


def test_a_missing_folder_says_how_the_hub_is_named():
    with pytest.raises(FileNotFoundError, match="hf://owner/repo"):
        fusionzoo.load(NAME)


def test_private_repositories_need_a_token(repository, server):
    repository.private = True
    with pytest.raises(FileNotFoundError, match=r"or it is private.*hf auth"):
        fusionzoo.from_pretrained(NAME)
    assert same_weights(fusionzoo.from_pretrained(NAME, token=TOKEN), small_model())
    # The store is another host: the token is not for it.
    stored = [authorization for _, path, authorization in server.requests if "/store/" in path]
    assert stored == [None]


def test_gated_repositories_are_explained(repository):
    repository.gated = True
    with pytest.raises(PermissionError, match="is gated: accept its terms"):
        fusionzoo.from_pretrained(NAME)


def test_a_missing_token_is_explained(repository):
    with pytest.raises(PermissionError, match="needs a token"):
        fusionzoo.from_pretrained(NAME, token=True)


def test_no_options_of_models_are_taken_for_those_of_the_hub():
    import inspect

    taken = set()
    for function in (fusionzoo.load, fusionzoo.from_pretrained):
        parameters = inspect.signature(function).parameters.values()
        taken |= {p.name for p in parameters if p.kind != p.VAR_KEYWORD}
    for entry in MODELS.values():
        assert not taken & set(zoo._options_of(entry.model_class()))


# Refusing ---------------------------------------------------------------------------------------


def test_pickles_alone_are_refused(server, made):
    content = pickle.dumps({"w": 1})
    server.add(NAME, {CONFIG_NAME: made[CONFIG_NAME], "pytorch_model.bin": content})
    with pytest.raises(ValueError, match=r"pickles only \(pytorch_model\.bin\).*refused.*ask its"):
        fusionzoo.load(f"hf://{NAME}")
    assert not server.asked("GET", "/store/")


def test_pickles_alone_are_refused_without_a_config_as_well(server):
    server.add(NAME, {"encoder.pth": b"1"})
    with pytest.raises(ValueError, match=r"pickles only \(encoder\.pth\)"):
        fusionzoo.load(f"hf://{NAME}")


def test_a_repository_without_a_model_is_refused(server, made):
    server.add(NAME, {"README.md": b"hello"})
    with pytest.raises(ValueError, match=r"has no config\.json, so it is no model of fusionzoo"):
        fusionzoo.load(f"hf://{NAME}")


def test_a_model_of_another_library_is_refused_before_its_weights_come(server, made):
    server.add(NAME, {**made, CONFIG_NAME: b'{"architectures": ["Bert"], "vocab_size": 9}'})
    with pytest.raises(ValueError, match=f"hf://{NAME}.*does not describe a fusionzoo model"):
        fusionzoo.load(f"hf://{NAME}")
    assert not server.asked("GET", "/store/")


def test_a_pickle_under_the_name_of_safetensors_is_refused_and_not_run(server, made, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    server.add(NAME, {**made, WEIGHTS_NAME: pickle.dumps(Evil())})
    with pytest.raises(ValueError, match="is a pickle"):
        fusionzoo.load(f"hf://{NAME}")
    assert not marker.exists()


def test_a_file_that_is_not_whole_is_refused(server, made):
    server.add(NAME, {**made, WEIGHTS_NAME: made[WEIGHTS_NAME][:-20]})
    with pytest.raises(ValueError, match="truncated or damaged"):
        fusionzoo.load(f"hf://{NAME}")


def test_weights_of_another_architecture_are_refused(server, made):
    server.add(NAME, {**made, WEIGHTS_NAME: save({"w": torch.zeros(3)})})
    with pytest.raises(ValueError, match=r"do not fit DIDFuse.*missing: .*unexpected: w"):
        fusionzoo.load(f"hf://{NAME}")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": "os.system"}, "is of a model that this version does not have"),
        ({"model": "fusionzoo.models.didfuse.module:DIDFuse"}, "this version does not have"),
        ({"model": ["didfuse"]}, "does not describe a fusionzoo model"),
        ({"options": {"auto_map": "x.py"}}, "options that this version's 'didfuse' does not have"),
        ({"options": {"channels": "rm -rf"}}, "do not suit 'didfuse'"),
        ({"options": {"rule": "median"}}, "rule"),
        ({"format": 9}, "of format 9"),
    ],
)
def test_a_config_names_models_and_plain_options_only(server, made, changes, problem):
    server.add(NAME, {**made, CONFIG_NAME: config_with(made, **changes)})
    with pytest.raises(ValueError, match=problem):
        fusionzoo.load(f"hf://{NAME}")


def test_a_config_cannot_point_to_files_of_the_machine(server, tmp_path):
    config = weights.make_config("coconet", {"vgg_weights": "/etc/passwd"})
    server.add(NAME, {CONFIG_NAME: json.dumps(config).encode(), WEIGHTS_NAME: save({})})
    with pytest.raises(ValueError, match="sets vgg_weights, which save_pretrained does not store"):
        fusionzoo.load(f"hf://{NAME}")


@pytest.mark.parametrize("text", [b"\xff\xfe", b"{", b"[" * 100_000])
def test_a_config_that_is_no_json_is_refused(server, made, text):
    server.add(NAME, {**made, CONFIG_NAME: text})
    with pytest.raises(ValueError, match="is not JSON"):
        fusionzoo.load(f"hf://{NAME}")


@pytest.mark.parametrize("change", [flipped, lambda data: data[:-9], lambda data: b""])
def test_a_cached_file_that_is_damaged_is_fetched_again(repository, cache, change):
    fusionzoo.load(f"hf://{NAME}")
    (folder,) = (cache / f"models--{NAME.replace('/', '--')}" / "snapshots").iterdir()
    damage(folder, change)
    assert same_weights(fusionzoo.load(f"hf://{NAME}"), small_model())


def test_the_cache_serves_while_the_hub_is_down(repository, server):
    fusionzoo.load(f"hf://{NAME}")
    server.faults = Faults(status=503)
    assert same_weights(fusionzoo.load(f"hf://{NAME}"), small_model())


def test_a_shared_store_of_blobs_is_no_damage(repository, cache):
    """The client may link a file further, to one that another hash names."""
    fusionzoo.load(f"hf://{NAME}")
    (blob,) = (path for path in blobs(cache, NAME) if len(path.name) == 64)
    store = cache / "blobs" / ("a" * 64)
    store.parent.mkdir()
    blob.rename(store)
    blob.symlink_to(store)
    fusionzoo.load(f"hf://{NAME}")
    assert blob.is_symlink()


# Uploading --------------------------------------------------------------------------------------


def test_what_is_pushed_comes_back(server):
    model = small_model(5)
    address = fusionzoo.push_to_hub(model, NAME, token=TOKEN)
    repository = server.repositories[NAME]
    assert address == f"hf://{NAME}@{repository.branches['main']}"
    _, files = repository.commits.values()  # that of the hub itself, and one for all files
    assert sorted(files) == [".gitattributes", CARD_NAME, CONFIG_NAME, WEIGHTS_NAME]
    assert f'fusionzoo.load("hf://{NAME}")' in files[CARD_NAME].decode()
    loaded = fusionzoo.load(address)
    assert same_weights(loaded, model)
    assert loaded.options == model.options


def test_storage_in_half_precision_a_card_and_a_private_repository(server):
    fusionzoo.push_to_hub(
        small_model(), NAME, card="my card", dtype=torch.float16, private=True, token=TOKEN
    )
    repository = server.repositories[NAME]
    files = repository.commits[repository.branches["main"]]
    assert files[CARD_NAME] == b"my card"
    assert repository.private
    full = small_model().save_pretrained("full") / WEIGHTS_NAME
    assert len(files[WEIGHTS_NAME]) < full.stat().st_size


def test_a_second_upload_replaces_the_weights_and_keeps_the_card(server):
    fusionzoo.push_to_hub(small_model(1), NAME, card="by hand", token=TOKEN)
    second = fusionzoo.push_to_hub(small_model(2), f"hf://{NAME}", token=TOKEN)
    repository = server.repositories[NAME]
    files = repository.commits[repository.branches["main"]]
    assert files[CARD_NAME] == b"by hand"
    assert same_weights(fusionzoo.load(second), small_model(2))
    fusionzoo.push_to_hub(small_model(2), NAME, card="new", token=TOKEN)
    assert repository.commits[repository.branches["main"]][CARD_NAME] == b"new"


@pytest.mark.parametrize("name", ["night-fusion", "a/b/c", "a b/c", f"{NAME}@v1"])
def test_names_that_cannot_be_pushed_to(server, name):
    with pytest.raises(ValueError, match=name):
        fusionzoo.push_to_hub(small_model(), name, token=TOKEN)
    assert server.requests == []


def test_uploads_without_a_token_are_explained(server):
    with pytest.raises(PermissionError, match=r"no right to upload.*hf auth login"):
        fusionzoo.push_to_hub(small_model(), NAME)
    assert NAME not in server.repositories


def test_uploads_to_a_hub_in_trouble_are_explained(server):
    server.faults = Faults(status=500)
    with pytest.raises(ConnectionError, match=f"{NAME}.*answered 500"):
        fusionzoo.push_to_hub(small_model(), NAME, token=TOKEN)


def test_uploads_offline_are_refused(server, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE=1 forbids uploading"):
        fusionzoo.push_to_hub(small_model(), NAME, token=TOKEN)


def test_a_tag_names_an_upload_and_is_not_moved(server, made):
    folder = small_model().save_pretrained("model")
    address = weights.upload_folder(folder, NAME, token=TOKEN, tag="v1.0")
    repository = server.repositories[NAME]
    assert repository.tags == {"v1.0": address.revision}
    small_model(2).save_pretrained(folder)
    with pytest.raises(FileExistsError, match=r"has a tag v1\.0 already"):
        weights.upload_folder(folder, NAME, token=TOKEN, tag="v1.0")
    assert repository.branches["main"] == address.revision


def test_a_folder_without_a_model_is_not_uploaded(server, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        weights.upload_folder(tmp_path, NAME, token=TOKEN)
    assert server.requests == []
