"""The table of models, list_models and create_model."""

import inspect

import pytest
import torch

import fusionzoo
from fusionzoo import weights, zoo
from fusionzoo.errors import InputError
from fusionzoo.models import DEFAULT_MODEL, MODELS, ModelEntry, build_table
from fusionzoo.module import FusionModule


def entry(name, path="a.b:C"):
    return ModelEntry(name=name, path=path, title="T", paper="https://example.org", year=2020)


def publish(monkeypatch, *keys):
    cfg = weights.WeightsCfg(
        file="",
        sha256="",
        fingerprint="",
        size=0,
        parameters=0,
        origin="",
        training_data="",
        weights_licence="",
    )
    monkeypatch.setattr(weights, "weights_table", lambda: dict.fromkeys(keys, cfg))


def test_a_double_name_raises():
    with pytest.raises(ValueError, match=r"two models are called 'one'.*a\.b:C.*x\.y:Z"):
        build_table([entry("one"), entry("two"), entry("one", "x.y:Z")])


@pytest.mark.parametrize("name", ["has.dot", "Upper", "has-dash", ""])
def test_names_that_could_be_mistaken_are_refused(name):
    with pytest.raises(ValueError, match="lower-case"):
        build_table([entry(name)])


def test_the_table_is_read_only():
    with pytest.raises(TypeError):
        MODELS["other"] = entry("other")


@pytest.mark.parametrize("name", MODELS)
def test_entries_agree_with_their_classes(name):
    model_class = MODELS[name].model_class()
    assert issubclass(model_class, FusionModule)
    assert model_class.name == name
    assert model_class.modalities == MODELS[name].modalities_of(name)
    kinds = {p.kind for p in inspect.signature(model_class).parameters.values()}
    # create_model names valid options, so a class must not swallow unknown ones.
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD} or kinds == {
        inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("name", MODELS)
def test_a_network_is_built_from_the_models_options(name):
    model = fusionzoo.create_model(name)
    assert MODELS[name].option_names() == inspect.signature(type(model)).parameters.keys()
    build = MODELS[name].network_builder()
    wanted = inspect.signature(build).parameters
    # The defaults have one home, the class.
    assert {p.default for p in wanted.values()} == {inspect.Parameter.empty}
    network = build(**{option: model.options[option] for option in wanted})
    network.load_state_dict(model.network.state_dict())
    ir, vi = torch.rand(2, 1, 1, 64, 64).unbind()
    with torch.no_grad():
        assert torch.equal(network.eval()(ir, vi), model.eval().network(ir, vi))


def test_listing_is_sorted_and_takes_wildcards(monkeypatch):
    table = build_table([entry("zeta"), entry("coconet"), entry("chitnet")])
    monkeypatch.setattr(zoo, "MODELS", table)
    assert zoo.list_models(pretrained=False) == ["chitnet", "coconet", "zeta"]
    assert zoo.list_models("c*", pretrained=False) == ["chitnet", "coconet"]
    assert zoo.list_models("C?conet", pretrained=False) == ["coconet"]
    assert zoo.list_models("nothing*", pretrained=False) == []


def test_the_list_is_what_load_takes(monkeypatch):
    assert fusionzoo.list_models() == sorted(weights.weights_table())
    publish(monkeypatch, "didfuse.tag", "didfuse")
    assert fusionzoo.list_models() == ["didfuse", "didfuse.tag"]
    assert fusionzoo.list_models("*.tag") == ["didfuse.tag"]
    publish(monkeypatch)
    assert fusionzoo.list_models() == []
    assert "didfuse" in fusionzoo.list_models(pretrained=False)


def test_the_default_model_is_published():
    assert DEFAULT_MODEL in weights.weights_table()


def test_create_model_makes_a_fresh_model_in_train_mode():
    torch.manual_seed(0)
    one = fusionzoo.create_model("didfuse", channels=4, rule="l1")
    two = fusionzoo.create_model("didfuse", channels=4)
    assert one.training
    assert one.options["rule"] == "l1"
    a, b = one.network.state_dict(), two.network.state_dict()
    assert any(not torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ["didfsue", "DIDFsue", "didfuse2"])
@pytest.mark.parametrize("function", [fusionzoo.create_model, fusionzoo.load])
def test_unknown_names_give_the_closest(function, name):
    with pytest.raises(InputError, match=rf"(?i)unknown model '{name}'.*did you mean 'didfuse'"):
        function(name)


def test_an_unknown_name_lists_all_that_is_taken():
    with pytest.raises(InputError, match=r"models are .*didfuse") as caught:
        fusionzoo.create_model("qqqqqqqq")
    assert "did you mean" not in str(caught.value)
    with pytest.raises(InputError, match=r"hf://owner/repo") as caught:
        fusionzoo.load("qqqqqqqq")
    assert ", ".join(fusionzoo.list_models()) in str(caught.value)


def test_names_are_alike_in_upper_and_lower_case():
    assert fusionzoo.create_model("DIDFuse", channels=2).name == "didfuse"


def test_unknown_options_are_named_with_the_valid_ones():
    with pytest.raises(ValueError, match=r"no option 'rulle' \(did you mean 'rule'\?\).*channels"):
        fusionzoo.create_model("didfuse", rulle="sum")


def test_what_is_made_in_inference_mode_can_be_trained():
    with torch.inference_mode():
        model = fusionzoo.create_model("didfuse", channels=2)
    assert not any(tensor.is_inference() for tensor in model.network.state_dict().values())
    image = torch.rand(1, 1, 16, 16)
    model.train().network(image, image).mean().backward()


def test_create_model_reads_no_weights(monkeypatch):
    def refuse(*_):
        raise AssertionError("create_model looked for weights")

    for name in ("weights_table", "read_safetensors", "checkpoint_folders"):
        monkeypatch.setattr(weights, name, refuse)
    fusionzoo.create_model("didfuse", channels=2)


def test_a_tag_that_is_a_task_says_what_weights_are_for():
    assert MODELS["coconet"].task_of("coconet") == "infrared-visible"
    assert MODELS["ifesnet"].task_of("ifesnet.hc") == "infrared-visible"
    assert MODELS["coconet"].task_of("coconet.medical") == "medical"
