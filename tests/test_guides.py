"""The documents: links lead somewhere, and their Python and commands do what they say."""

import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from cli_helpers import ASSETS
from flir_helpers import photo
from PIL import Image
from torch.distributed.run import get_args_parser

from fusionzoo.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
#: The guides of newcomers; the other documents have tests of their own.
GUIDES = ["index", "fuse", "train", "measure", "medical", "inputs", "models"]
TEXTS = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in GUIDES}
TEXTS["README"] = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
#: Commands that are run as they stand; the others train, or fuse many images.
RUN = ("fuse", "evaluate", "list")

pytestmark = pytest.mark.usefixtures("one_thread")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text):
    """The arguments of every fusionzoo command in a text."""
    lines = "\n".join(blocks(text, "sh")).splitlines()
    found = [re.search(r"(?:^|&& )fusionzoo (.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """A folder with small images under all the names that the guides use."""
    images = {}
    for side in ("ir", "vi"):
        with Image.open(ASSETS / f"cli_{side}.png") as image:
            images[side] = image.convert("RGB" if side == "vi" else "L").resize((64, 48))
    places = {
        "ir": ["ir.png", "pet.png", "examples/ir.png", "thermal/1.png", "all/1_ir.png",
               "my_pairs/train/ir/1.png", "pet/1.png"],
        "vi": ["vi.png", "examples/vi.png", "visible/1.png", "all/1_vi.png",
               "my_pairs/train/vi/1.png", "fused/1.png"],
    }  # fmt: skip
    for side, names in places.items():
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            images[side].save(tmp_path / name)
    for name in ("mri.png", "mri/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        images["vi"].convert("L").save(tmp_path / name)
    for name in ("photo.jpg", "photos/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(photo())
    for name in ("ir.raw", "ir/1.raw"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(range(256)) * (640 * 512 * 2 // 256))
    (tmp_path / "vi").mkdir()
    images["vi"].save(tmp_path / "vi" / "1.png")
    for name in ("thermal.tif", "ortho.tif"):
        images["ir"].save(tmp_path / name)
    write_scans(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_scans(folder):
    """A PET and an MRI as NIfTI volumes, DICOM files and series, for the guide of scanners."""
    import nibabel
    import numpy as np
    import pydicom

    values = np.random.default_rng(0).integers(0, 900, (24, 20, 2)).astype(np.int16)
    for name in ("pet", "mri"):
        nibabel.Nifti1Image(values, np.eye(4)).to_filename(folder / f"{name}.nii.gz")
        (folder / f"{name}_series").mkdir()
        for number in range(2):
            made = pydicom.Dataset()
            made.file_meta = pydicom.dataset.FileMetaDataset()
            made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            made.SOPClassUID, made.SOPInstanceUID = pydicom.uid.MRImageStorage, f"1.2.{number + 1}"
            made.set_pixel_data(values[:, :, number], "MONOCHROME2", 16)
            made.SeriesInstanceUID, made.PixelSpacing = "1.2.3", [1, 1]
            made.ImagePositionPatient = [0, 0, number]
            made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            made.save_as(folder / f"{name}_series" / f"{number}.dcm", enforce_file_format=True)
        made.save_as(folder / f"{name}.dcm", enforce_file_format=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TEXTS)
def test_python_of_the_guides_runs(name, pair):
    names = {}
    for block in blocks(TEXTS[name], "python"):
        exec(compile(block, f"{name}.md", "exec"), names)


@pytest.mark.parametrize("name", TEXTS)
def test_commands_of_the_guides_run(name, pair, capsys):
    for arguments in commands(TEXTS[name]):
        assert arguments[0] in COMMANDS, arguments
        files = " ".join(arguments)
        if arguments[0] not in RUN or ".mp4" in files or "runs/" in files or "--align" in arguments:
            continue
        assert main(arguments) == 0, (arguments, capsys.readouterr().err)


def test_commands_for_many_machines_are_understood(capsys):
    text = "\n".join(blocks((DOCS / "many_machines.md").read_text(encoding="utf-8"), "sh"))
    launcher = get_args_parser()
    ran = []
    for line in filter(None, text.splitlines()):
        if line.startswith("torchrun "):
            given = launcher.parse_args(shlex.split(line)[1:])
            assert given.module
            assert given.training_script == "fusionzoo"
            arguments = given.training_script_args
            processes = (int(given.nnodes), int(given.nproc_per_node))
        elif line.startswith("srun "):
            arguments, processes = shlex.split(line)[2:], (2, 4)
        else:
            assert line.startswith("#"), line
            continue
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--print_config"])
        config = capsys.readouterr().out
        assert not ended.value.code, (line, config)
        assert f"devices: '{processes[1]}'\n  num_nodes: {processes[0]}\n" in config
        ran.append(arguments[0])
    assert sorted(ran) == sorted(2 * ["fit", "predict", "test"])


def test_links_lead_to_files():
    lost = []
    for path in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" in target:
                continue
            if not (path.parent / target).exists():
                lost.append(f"{path.name}: {target}")
    assert lost == []


def test_the_reference_has_every_public_package_and_name():
    site_pages = pytest.importorskip("site_pages", reason="needs fusionzoo[docs]")
    listed = site_pages.public_modules()
    for package in (ROOT / "fusionzoo").glob("*/__init__.py"):
        name = f"fusionzoo.{package.parent.name}"
        public = "__all__" in package.read_text(encoding="utf-8")
        assert (name in listed) == (public and package.parent.name not in site_pages.NOT_LISTED)
    for module, path in listed.items():
        for name in site_pages.public_names(path):
            value = getattr(import_module(module), name)
            if inspect.isclass(value) or inspect.isroutine(value):  # aliases of types have none
                assert value.__doc__, f"{module}.{name} has no docstring"


def test_links_of_the_site_follow_the_files():
    site_pages = pytest.importorskip("site_pages", reason="needs fusionzoo[docs]")
    text = (
        "[a](../../docs/lapnet.md#loss) ![b](pairs.png) [c](../coconet/README.md) "
        "[d](../../LICENSE) [e](https://x.org) [f](../../lost.md)\n```\n[g](../../LICENSE)\n```\n"
    )
    assert site_pages.with_site_links(text, "models/lapnet.md") == (
        "[a](../lapnet.md#loss) ![b](lapnet/pairs.png) [c](coconet.md) "
        f"[d]({site_pages.REPOSITORY}/blob/main/LICENSE) [e](https://x.org) [f](../../lost.md)\n"
        "```\n[g](../../LICENSE)\n```\n"
    )
