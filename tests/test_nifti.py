"""NIfTI: slices and volumes as nibabel gives them; fusing volumes by their affines; damage."""

import gzip
import io
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from readers_helpers import check_damage, damaged

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.errors import (
    FusionZooError,
    InputError,
    InputTypeError,
    MissingFileError,
    OutOfMemoryError,
)
from fusionzoo.readers.nifti import read_volume
from fusionzoo.volumes import fuse_volumes

FILES = Path(nibabel.__file__).parent / "tests" / "data"
ANATOMY = FILES / "anatomical.nii"
RNG = np.random.default_rng(0)
# Turns of the order of voxels: the axes that they go to, and which way.
TURNED = np.array([[2, 1], [0, -1], [1, 1]])


def average(ir, vi, **options):
    """A model that averages, by the engine of all models."""
    from fusionzoo.inference import fuse_images

    return fuse_images(lambda ir, vi: (ir + vi) / 2, ir, vi, **options)


def image(values, affine=None, **codes):
    return nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)


def functional():
    """The mean of a real functional scan, which lies in the anatomical one."""
    scan = nibabel.load(FILES / "functional.nii")
    return image(scan.get_fdata().mean(-1).astype(np.float32), scan.affine)


def canonical(values, affine):
    return np.asarray(nibabel.as_closest_canonical(image(values, affine)).dataobj)


# -- slices and volumes ----------------------------------------------------------------------


def test_a_slice_is_shown_as_radiologists_see_it():
    theirs = nibabel.as_closest_canonical(nibabel.load(ANATOMY))
    reading = fusionzoo.open_image(ANATOMY, page=7)
    # Rows from the front, columns from the patient's right.
    np.testing.assert_array_equal(reading.values, np.asarray(theirs.dataobj)[::-1, ::-1, 7].T)
    assert (reading.kind, reading.values.dtype) == ("nifti", np.int16)


def test_a_slice_is_the_same_in_all_orders_of_storage(tmp_path):
    nibabel.load(ANATOMY).as_reoriented(TURNED).to_filename(tmp_path / "turned.nii.gz")
    ours = fusionzoo.open_image(tmp_path / "turned.nii.gz", page=3).values
    np.testing.assert_array_equal(ours, fusionzoo.open_image(ANATOMY, page=3).values)


def test_a_slice_is_written_where_it_was(tmp_path):
    reading = fusionzoo.open_image(ANATOMY, page=7)
    reading.save(tmp_path / "slice.nii")
    written, whole = nibabel.load(tmp_path / "slice.nii"), nibabel.load(ANATOMY)
    again = fusionzoo.open_image(tmp_path / "slice.nii")
    np.testing.assert_array_equal(again.values, reading.values)
    # The same voxel of both, by their places in the patient.
    place = written.affine @ [4, 5, 0, 1]
    x, y, z = np.rint(np.linalg.solve(whole.affine, place)[:3]).astype(int)
    assert np.asarray(written.dataobj)[4, 5, 0] == np.asarray(whole.dataobj)[x, y, z]


@pytest.mark.parametrize("name", ["anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"])
def test_volumes_are_those_of_nibabel(name):
    theirs, ours = nibabel.load(FILES / name), read_volume(FILES / name)
    np.testing.assert_array_equal(ours.values(), theirs.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(ours.affine, theirs.affine)


def test_pairs_of_header_and_values_are_read(tmp_path):
    values = RNG.integers(0, 900, (4, 5, 6)).astype(np.int16)
    nibabel.Nifti1Pair(values, np.eye(4)).to_filename(tmp_path / "a.hdr")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.hdr").stored, values)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.img").stored, values)


def test_affines_in_other_units_become_millimetres(tmp_path):
    made = image(np.ones((3, 4, 5), np.int16), np.diag([0.002, 0.002, 0.003, 1]))
    made.header.set_xyzt_units("meter")
    made.to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").affine, np.diag([2, 2, 3, 1]))


def flat():
    affine = np.eye(4)
    affine[:, 1] = affine[:, 0]
    return image(np.ones((4, 5, 6), np.int16), affine)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: nibabel.load(FILES / "functional.nii"), "holds 20 volumes of 17 x 21 x 3"),
        (lambda: image(np.ones((4, 5), np.int16)), "2 dimensions"),
        (lambda: image(np.ones((4, 5, 6), np.complex64)), "complex64 values"),
        (lambda: image(np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "colours"),
        (flat, "does not say where its voxels lie"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path, made, message):
    made().to_filename(tmp_path / "a.nii")
    for read in (read_volume, fusionzoo.open_image):
        with pytest.raises(InputError, match=rf"a\.nii .*{message}"):
            read(tmp_path / "a.nii")


def test_a_volume_is_no_image():
    with pytest.raises(InputError, match=r"volume of 33 x 41 x 25 voxels; .*fuse_volumes"):
        fusionzoo.open_image(ANATOMY)
    with pytest.raises(InputError, match="no page 25; it holds 25 axial slices"):
        fusionzoo.open_image(ANATOMY, page=25)


def test_bombs_are_refused_by_their_header(tmp_path, monkeypatch):
    header = bytearray(ANATOMY.read_bytes()[:352])
    header[40:48] = np.array(
        [3, 30000, 30000, 30000], "<i2" if header[0] == 92 else ">i2"
    ).tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(InputError, match=r"30000 x 30000 x 30000 .* the limit is"):
        read_volume(tmp_path / "a.nii.gz")
    header[40:48] = np.array([3, 900, 900, 900], ">i2").tobytes()
    for content in (gzip.compress(bytes(header)), bytes(header)):
        (tmp_path / "a.nii.gz").write_bytes(content)
        with pytest.raises(InputError, match="is cut off: its header tells of"):
            read_volume(tmp_path / "a.nii.gz")
    monkeypatch.setenv("FUSIONZOO_MEMORY_GB", "0.1")
    with pytest.raises(OutOfMemoryError, match=r"vi: .*anatomical\.nii .* 0\.1 GB are free"):
        fuse_volumes(average, functional(), ANATOMY)


def library(path, reading):
    try:
        made = nibabel.Nifti1Image.from_bytes(path.read_bytes())
    except Exception:
        return None  # a pair, or of another version
    made = made.slicer[(slice(None),) * 3 + (0,) * (len(made.shape) - 3)]
    theirs = np.asarray(nibabel.as_closest_canonical(made).dataobj)[::-1, ::-1, 0].T
    return theirs


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_an_error_or_the_values_of_nibabel(tmp_path):
    one = nibabel.load(ANATOMY).slicer[:, :, 5:6]
    assert check_damage(tmp_path / "a.nii", one.to_bytes(), library, count=250) > 25


@pytest.mark.filterwarnings("ignore")
def test_damaged_volumes_give_an_error_or_a_result(tmp_path):
    small = nibabel.load(ANATOMY).slicer[::8, ::8, ::8].to_bytes()
    whole, packed = tmp_path / "a.nii", tmp_path / "a.nii.gz"
    fused = 0
    for number, content in enumerate(damaged(small, 1, 60)):
        path = packed if number % 2 else whole
        path.write_bytes(gzip.compress(content)[: -number or None] if number % 2 else content)
        said = f"no error, {path.name}"
        try:
            fuse_volumes(average, functional(), path)
            fused += 1
        except FusionZooError as error:
            said = str(error)
        assert path.name in said
        assert "\n" not in said
    assert fused > 5


# -- fusing ----------------------------------------------------------------------------------


def test_equal_grids_are_fused_slice_by_slice():
    mri = nibabel.load(ANATOMY)
    values = RNG.normal(100, 20, mri.shape).astype(np.float32)
    ranges = {"ir_range": (50, 150), "vi_range": (0, 25000)}
    fused = fuse_volumes(average, image(values, mri.affine), mri, **ranges)
    unit = np.clip((values - 50) / 100, 0, 1), np.clip(np.asarray(mri.dataobj) / 25000, 0, 1)
    np.testing.assert_allclose(fused.values / 65535, (unit[0] + unit[1]) / 2, atol=1e-5)
    assert fused.overlap == 1.0
    np.testing.assert_array_equal(fused.affine, mri.affine)


def test_the_network_sees_upright_slices():
    mri, seen = nibabel.load(ANATOMY), []

    def keep(ir, vi, **options):
        seen.extend(vi)
        return average(ir, vi, **options)

    fuse_volumes(keep, image(np.asarray(mri.dataobj), mri.affine), mri, vi_range=(0, 32767))
    for number in (0, 11, 24):
        theirs = fusionzoo.open_image(ANATOMY, page=number).values / 32767
        np.testing.assert_allclose(seen[number], theirs.clip(0), atol=1e-6)


@pytest.mark.parametrize("colormap", [None, "hot"])
def test_the_order_of_storage_does_not_matter(colormap):
    mri = nibabel.load(ANATOMY)
    plain = fuse_volumes(average, functional(), mri, colormap=colormap, axis="coronal")
    turned = fuse_volumes(
        average, functional().as_reoriented(TURNED[::-1]), mri.as_reoriented(TURNED),
        colormap=colormap, axis="coronal",
    )  # fmt: skip
    back = image(plain.values, mri.affine).as_reoriented(TURNED)
    np.testing.assert_array_equal(turned.values, np.asarray(back.dataobj))
    np.testing.assert_allclose(turned.affine, back.affine)


def test_the_functional_volume_is_brought_to_the_grid_of_the_mri():
    """Against nibabel's own resampling, on a real pair of grids that are turned and scaled."""
    from nibabel.processing import resample_from_to

    mri, scan = nibabel.load(ANATOMY), functional()
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    scan = image(np.asarray(scan.dataobj), turn @ scan.affine)
    theirs = resample_from_to(scan, mri, order=1, mode="constant", cval=np.nan).get_fdata()
    black = image(np.zeros(mri.shape, np.float32), mri.affine)
    fused = fuse_volumes(average, scan, black, ir_range=(0, 6000), vi_range=(0, 1))
    inside = np.isfinite(theirs)  # nibabel ends at the centres of the outer voxels
    assert inside.sum() > 5000
    ours = fused.values / 65535 * 2 * 6000
    np.testing.assert_allclose(ours[inside], theirs[inside].clip(0, 6000), atol=0.2)


def test_outside_the_functional_volume_the_mri_stays():
    mri = nibabel.load(ANATOMY)
    fused = fuse_volumes(average, functional(), mri, vi_range=(0, 30000), ir_range=(0, 6000))
    # Its three slices of 8 mm reach from -4 to 20 mm.
    heights = mri.affine[2, 3] + mri.affine[2, 2] * np.arange(25)
    outside = (heights < -4.1) | (heights > 20.1)
    alone = np.clip(np.asarray(mri.dataobj) / 30000, 0, 1)
    np.testing.assert_allclose(fused.values[..., outside] / 65535, alone[..., outside], atol=1e-5)
    assert fused.overlap == pytest.approx(1 - outside.mean(), abs=0.01)


def test_fine_volumes_are_smoothed_before_they_become_coarse():
    fine = RNG.normal(0, 1, (64, 64, 64)).astype(np.float32)
    coarse = image(np.zeros((8, 8, 8), np.float32), np.diag([8.0, 8, 8, 1]))
    fused = fuse_volumes(average, image(fine), coarse, ir_range=(-4, 4), vi_range=(0, 1))
    noise = (fused.values / 65535 * 2 * 8 - 4).std()
    assert noise < 0.2  # of 1 without


def test_values_that_are_no_numbers_take_the_least():
    mri = nibabel.load(ANATOMY)
    values = np.asarray(mri.dataobj).astype(np.float32)
    values[:3] = np.nan
    fused = fuse_volumes(average, image(values, mri.affine), mri, ir_range=(0, 30000))
    least = np.where(np.isnan(values), np.nanmin(values), values)
    same = fuse_volumes(average, image(least, mri.affine), mri, ir_range=(0, 30000))
    np.testing.assert_array_equal(fused.values, same.values)


def test_black_and_white_are_those_of_the_whole_volume():
    grey = image(np.zeros((4, 4, 3), np.float32))
    steps = np.ones((4, 4, 3), np.float32) * [10.0, 20.0, 30.0]
    fused = fuse_volumes(average, image(steps), grey, vi_range=(0, 1))
    levels = fused.values[0, 0] / 65535 * 2
    np.testing.assert_allclose(levels, [0, 0.5, 1], atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2, "sagittal", "coronal", "axial"])
def test_every_axis_gives_all_slices(axis):
    seen = []
    fused = fuse_volumes(
        average, functional(), ANATOMY, axis=axis, batch_size=4,
        progress=lambda number, count: seen.append((number, count)),
    )  # fmt: skip
    count = dict(zip((0, 1, 2, "sagittal", "coronal", "axial"), (33, 41, 25) * 2, strict=True))[
        axis
    ]
    assert seen == [(number + 1, count) for number in range(count)]
    # Averaging does not depend on the axis.
    other = fuse_volumes(average, functional(), ANATOMY)
    np.testing.assert_array_equal(fused.values, other.values)


@pytest.mark.parametrize("name", ["fused.nii", "fused.nii.gz"])
def test_results_are_what_nibabel_reads(tmp_path, name):
    mri = nibabel.load(ANATOMY)
    fused = fuse_volumes(average, functional(), ANATOMY, colormap="hot")
    fused.save(tmp_path / name)
    written = nibabel.load(tmp_path / name)
    np.testing.assert_allclose(written.affine, mri.affine)
    colours = np.asarray(written.dataobj)
    assert colours.dtype.names == ("R", "G", "B")
    np.testing.assert_array_equal(colours["G"], fused.values[..., 1])
    grey = fuse_volumes(average, functional(), ANATOMY)
    grey.save(tmp_path / name)
    written = nibabel.load(tmp_path / name)
    np.testing.assert_allclose(written.get_fdata(), grey.values / 65535, atol=1e-6)
    assert int(written.header["sform_code"]) == int(mri.header["sform_code"])


def test_colours_are_those_of_the_colormap():
    mri = nibabel.load(ANATOMY)
    black = image(np.zeros(mri.shape, np.float32), mri.affine)

    def first(ir, vi, **options):
        return ir

    fused = fuse_volumes(first, black, mri, colormap="hot", ir_range=(-1, 1))
    from matplotlib import colormaps

    middle = np.array(colormaps["hot"](128, bytes=True)[:3])
    assert (fused.values == middle).all()


def space(made, code):
    made.set_sform(made.affine, code)
    made.set_qform(made.affine, code)
    return made


def test_volumes_that_do_not_fit_are_refused(tmp_path):
    far = functional().affine.copy()
    far[:3, 3] += 500
    scan = np.asarray(functional().dataobj)
    with pytest.raises(InputError, match="show no common part of the patient"):
        fuse_volumes(average, image(scan, far), ANATOMY)
    space(functional(), 1).to_filename(tmp_path / "scanner.nii")
    space(nibabel.load(ANATOMY), 4).to_filename(tmp_path / "mni.nii")
    pair = tmp_path / "scanner.nii", tmp_path / "mni.nii"
    with pytest.raises(InputError, match=r"different spaces \(scanner and MNI\); .*force=True"):
        fuse_volumes(average, *pair)
    assert fuse_volumes(average, *pair, force=True).frame == "MNI"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"axis": "axail"}, InputError, "did you mean 'axial'"),
        ({"axis": 3}, InputError, "axis must be one of"),
        ({"axis": True}, InputError, "axis must be one of"),
        ({"colormap": "hott"}, InputError, "did you mean 'hot'"),
        ({"ir_range": (3, 1)}, InputError, "ir_range"),
        ({"batch_size": 0}, InputError, "batch_size"),
        ({"colourmap": "hot"}, InputError, "did you mean 'colormap'"),
        ({"ir": 3}, InputTypeError, "ir is a int"),
        ({"ir": "nothing.nii"}, MissingFileError, r"ir: nothing\.nii: no such file"),
        ({"ir": Path(__file__)}, InputError, r"test_nifti\.py is no volume"),
        ({"ir": FILES / "example4d.nii.gz"}, InputError, "ir: .*example4d.nii.gz holds 2 volumes"),
        ({"ir": image(np.ones((4, 5), np.int16))}, InputError, "ir has 2 dimensions"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(change, error, message):
    given = {"ir": functional(), "vi": ANATOMY, **change}
    with pytest.raises(error, match=message):
        fuse_volumes(average, given.pop("ir"), given.pop("vi"), **given)


def test_a_model_fuses_volumes_as_it_fuses_slices():
    mri = nibabel.load(ANATOMY).slicer[:, :, 8:11]
    model = fusionzoo.load("lapnet.medical")
    fused = fusionzoo.fuse_volumes(
        model, image(np.asarray(mri.dataobj)[::-1], mri.affine), mri, colormap="hot",
        ir_range=(0, 30000), vi_range=(0, 30000),
    )  # fmt: skip
    from matplotlib import colormaps

    mirrored = np.ascontiguousarray(np.asarray(mri.dataobj)[::-1])
    pet = canonical(mirrored, mri.affine)[::-1, ::-1, 1].T
    shown = colormaps["hot"](np.rint(np.clip(pet / 30000, 0, 1) * 255).astype(int), bytes=True)
    anatomy = np.clip(fusionzoo.open_image(ANATOMY, page=9).values / 30000, 0, 1)
    one = model.fuse(shown[..., :3].copy(), anatomy.astype(np.float32))
    ours = canonical(fused.values, mri.affine)[::-1, ::-1, 1].swapaxes(0, 1)
    assert np.abs(ours.astype(int) - one).max() <= 1


# -- the command line ------------------------------------------------------------------------


def test_the_command_line(tmp_path, capsys):
    functional().to_filename(tmp_path / "pet.nii.gz")
    pair = [str(tmp_path / "pet.nii.gz"), str(ANATOMY), "--model", "lapnet.medical"]
    out = str(tmp_path / "fused.nii.gz")
    assert main(["fuse", *pair, "-o", out, "--axis", "2", "--colormap", "hot"]) == 0
    assert "fused 33 x 41 x 25 voxels" in capsys.readouterr().out
    assert nibabel.load(out).shape == (33, 41, 25)
    assert main(["fuse", *pair, "-o", str(tmp_path)]) == 0
    assert nibabel.load(tmp_path / "anatomical.nii").get_data_dtype() == np.uint16
    capsys.readouterr()
    for arguments, message in (
        ([*pair, "-o", str(tmp_path / "a.png")], "written as .nii or .nii.gz"),
        ([*pair, "-o", out, "--resize", "ir"], "--resize is not for volumes"),
        ([*pair, "-o", pair[0]], "is one of the volumes to fuse"),
        ([*pair, "-o", out, "--axis", "3"], "give axial, coronal, sagittal, 0, 1 or 2"),
        ([pair[0], "-o", out], "needs a second one"),
        (["a.png", "b.png", "-o", "c.png", "--axis", "1"], "--axis is for volumes"),
    ):
        assert main(["fuse", *arguments]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_folders_of_dicom_slices_are_volumes(tmp_path, capsys):
    """The same real volume as NIfTI and as a series that pydicom writes."""
    mri = nibabel.as_closest_canonical(nibabel.load(ANATOMY).slicer[::2, ::2, ::5])
    values = np.asarray(mri.dataobj)
    for number in range(values.shape[2]):
        made = pydicom.Dataset()
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        made.SOPClassUID, made.SOPInstanceUID = pydicom.uid.MRImageStorage, f"1.2.{number + 1}"
        made.set_pixel_data(values[:, :, number].T.astype(np.int16), "MONOCHROME2", 16)
        made.Modality, made.SeriesInstanceUID, made.FrameOfReferenceUID = "MR", "1.2.3", "1.2.4"
        place = mri.affine @ [0, 0, number, 1]
        made.ImagePositionPatient = [-place[0], -place[1], place[2]]
        made.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        made.PixelSpacing = [4, 4]
        (tmp_path / "mri").mkdir(exist_ok=True)
        made.save_as(tmp_path / "mri" / f"{9 - number}.dcm", enforce_file_format=True)
    ours = fuse_volumes(average, functional(), tmp_path / "mri")
    theirs = fuse_volumes(average, functional(), mri)
    np.testing.assert_allclose(ours.affine @ [1, 2, 3, 1], mri.affine @ [1, 2, 3, 1])
    np.testing.assert_array_equal(ours.values, theirs.values)
    folder, out = str(tmp_path / "mri"), str(tmp_path / "a.nii.gz")
    assert main(["fuse", folder, folder, "-o", out, "--model", "lapnet.medical"]) == 0
    stream = io.BytesIO(Path(out).read_bytes())
    assert fusionzoo.open_image(stream, page=0).values.shape == values.shape[1::-1]
