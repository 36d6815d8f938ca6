"""What parts of published weights do: tensors set to 0, and modules compared."""

import inert
import pytest
import torch
from cli_helpers import pairs_folder
from results_helpers import made_benchmark

import fusionzoo


@pytest.fixture
def checkpoints(tmp_path):
    folder = made_benchmark(tmp_path).folder
    torch.manual_seed(0)
    fusionzoo.create_model("didfuse", channels=4, rule="average").save_pretrained(
        folder / "didfuse"
    )
    pairs_folder(tmp_path / "data" / "near" / "test", ["a", "b"], color=False, size=64)
    return folder


def ran(checkpoints, capsys, *arguments):
    data = str(checkpoints.parent / "data")
    inert.main(
        ["didfuse", "--set", "near", "--crop", "48", "--data", data, *arguments], checkpoints
    )
    return capsys.readouterr().out


def test_what_is_set_to_zero_shows(checkpoints, capsys):
    text = ran(checkpoints, capsys, "--zero", "decoder.conv7.conv.weight[:,0:4]")
    assert text.startswith("2 pairs of near, 48×48 pixels in their middle:")
    assert "`decoder.conv7.conv.weight[:,0:4]`: 36 values of mean size" in text
    assert "of the rest of the same tensors" in text
    lines = text.splitlines()
    assert lines[-4] == "|  | EN | SD | AG | VIF | Qabf | SSIM | SCD |"
    assert lines[-2].startswith("| as shipped |")
    assert lines[-1].startswith("| 0 |")
    assert lines[-1][6:] != lines[-2].removeprefix("| as shipped |")
    nothing = ran(
        checkpoints, capsys, "--zero", "decoder.conv7.conv.weight[:,0:0]", "decoder.*.bias"
    )
    assert "`decoder.*.bias`" in nothing


def test_zero_and_its_measure():
    network = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1))
    torch.nn.init.constant_(network[0].weight, -3.0)
    assert inert.set_to_zero(network, ["0.weight[1:2,1:3]"]) == (2, 6.0, 3.0)
    assert network[0].weight.tolist() == [[-3] * 4, [-3, 0, 0, -3]]
    inert.set_to_zero(network, ["*.weight"])
    assert not network[0].weight.any()
    assert network[0].bias.any()
    for name in ("2.weight", "0.weight[1]"):
        with pytest.raises(ValueError, match="no such tensor"):
            inert.set_to_zero(network, [name])


def test_modules_are_compared_between_the_sources(checkpoints, capsys):
    text = ran(checkpoints, capsys, "--apart", "encoder.base", "encoder.detail")
    values = {
        line.split("|")[1].strip(): [float(cell) for cell in line.split("|")[2:5]]
        for line in text.splitlines()
        if line.startswith("| `")
    }
    assert values.keys() == {"`encoder.base`", "`encoder.detail`"}
    assert all(0 < least <= mean <= greatest for least, mean, greatest in values.values())
    with pytest.raises(ValueError, match="--apart"):
        ran(checkpoints, capsys, "--apart", "encoder.bass")
