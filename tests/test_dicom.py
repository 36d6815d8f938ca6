"""DICOM: values, windows and colours as pydicom gives them; series; secondary captures; damage."""

import io
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from readers_helpers import check_damage

import fusionzoo
from fusionzoo.cli import main
from fusionzoo.errors import FusionZooError, FusionZooWarning, InputError
from fusionzoo.inference import fuse_images, save_image
from fusionzoo.readers.dicom import keeping_patient
from fusionzoo.readers.dicom_series import read_series

# What pydicom says of its own odd files is of no account here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
RNG = np.random.default_rng(0)


def average(ir, vi):
    return (ir + vi) / 2


def dataset(values, **elements):
    """A file that pydicom writes."""
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = MRImageStorage, generate_uid()
    photometric = elements.pop("photometric", "RGB" if values.ndim == 3 else "MONOCHROME2")
    bits = elements.pop("bits", 8 * values.dtype.itemsize)
    made.set_pixel_data(values, photometric, bits)
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def content(made):
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


GREY = ["CT_small", "MR_small", "MR_small_bigendian", "MR_small_RLE", "MR_small_jp2klossless"]


@pytest.mark.parametrize("name", [*GREY, "examples_overlay", "image_dfl", "693_J2KI"])
def test_values_are_those_of_pydicom(name):
    path = FILES / f"{name}.dcm"
    theirs = pydicom.dcmread(path)
    reading = fusionzoo.open_image(path)
    np.testing.assert_array_equal(reading.values, apply_modality_lut(theirs.pixel_array, theirs))
    assert reading.kind == "dicom"
    assert reading.unit == ("HU" if theirs.get("Modality") == "CT" else None)
    assert reading.values.dtype.isnative


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_rle",
        "SC_rgb_rle_16bit",
        "SC_ybr_full_422_uncompressed",
        "ExplVR_BigEnd",
        "SC_rgb_jpeg",
    ],
)
def test_colours_are_those_of_pydicom(name):
    path = FILES / f"{name}.dcm"
    theirs = pydicom.dcmread(path).pixel_array
    np.testing.assert_array_equal(fusionzoo.open_image(path).values, theirs)


def test_palettes_become_the_8_bit_colours_that_a_screen_shows():
    theirs = pydicom.dcmread(FILES / "examples_palette.dcm")
    colours = apply_color_lut(theirs.pixel_array, theirs)
    reading = fusionzoo.open_image(FILES / "examples_palette.dcm")
    assert reading.values.dtype == np.uint8
    np.testing.assert_array_equal(reading.values, colours >> 8)


@pytest.mark.parametrize("shape", [None, "LINEAR", "LINEAR_EXACT"])
def test_the_window_is_the_range_as_pydicom_applies_it(shape):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    made = dataset(values, bits=12, WindowCenter=[600, 40], WindowWidth=[1601, 80])
    if shape is not None:
        made.VOILUTFunction = shape
    reading = fusionzoo.open_image(content(made))
    low, high = reading.range
    # pydicom maps the window to all numbers that the bits hold.
    theirs = apply_voi_lut(values, made, prefer_lut=False) / 4095
    ours = np.clip((values - low) / (high - low), 0, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_rescaling_gives_values_in_their_unit():
    values = RNG.integers(0, 4000, (8, 9), dtype=np.uint16)
    made = dataset(values, Modality="PT", Units="BQML", RescaleSlope="0.37", RescaleIntercept="-2")
    reading = fusionzoo.open_image(content(made))
    np.testing.assert_allclose(reading.values, apply_modality_lut(values, made), rtol=1e-6)
    assert (reading.values.dtype, reading.unit) == (np.float32, "Bq/ml")


def test_monochrome1_is_turned_round_with_its_window():
    values = RNG.integers(0, 4096, (8, 9), dtype=np.uint16)
    window = {"WindowCenter": 1000, "WindowWidth": 501, "bits": 12}
    plain = fusionzoo.open_image(content(dataset(values, **window)))
    made = dataset(4095 - values, photometric="MONOCHROME1", **window)
    made.WindowCenter = 4095 - 1000 + 1  # a linear window lies half a value below its centre
    turned = fusionzoo.open_image(content(made))
    np.testing.assert_array_equal(turned.values, plain.values)
    assert turned.range == plain.range
    byte = values.astype(np.uint8)
    turned = fusionzoo.open_image(content(dataset(byte, photometric="MONOCHROME1")))
    assert turned.values.dtype == np.uint8
    np.testing.assert_array_equal(turned.values, 255 - byte)


def test_padding_around_a_round_image_is_no_value():
    values = RNG.integers(100, 900, (16, 16)).astype(np.int16)
    values[:4] = -2000
    reading = fusionzoo.open_image(content(dataset(values, PixelPaddingValue=-2000)))
    assert not reading.valid[:4].any()
    assert reading.valid[4:].all()
    other = RNG.random((16, 16), dtype=np.float32)
    fused = fuse_images(average, reading, other)
    np.testing.assert_allclose(fused[:4], other[:4], atol=1e-6)


def test_a_frame_is_chosen_or_refused_by_name():
    path = FILES / "SC_rgb_rle_2frame.dcm"
    with pytest.raises(InputError, match=r"2frame\.dcm holds 2 frames; pass one .*page=0"):
        fusionzoo.open_image(path)
    for page in (0, 1):
        theirs = pixel_array(path, index=page)
        np.testing.assert_array_equal(fusionzoo.open_image(path, page=page).values, theirs)
    with pytest.raises(InputError, match="no page 2; it holds 2 frames"):
        fusionzoo.open_image(path, page=2)


@pytest.mark.skipif(any(map(find_spec, ("pylibjpeg", "gdcm"))), reason="plugins are here")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("JPEGLSNearLossless_16", "JPEG-LS .* needs a plugin of pydicom; run: pip install pylib"),
        ("JPGExtended", "JPEG Extended .*pip install pylibjpeg pylibjpeg-libjpeg"),
        ("GDCMJ2K_TextGBR", "JPEG 2000.*pylibjpeg-openjpeg"),
        ("MR_truncated", "bytes of pixel data is less than expected"),
        ("badVR", "cannot be read as a DICOM file"),
        ("rtplan", "holds no image"),
        ("test-SR", r"holds no image \(SR\)"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(name, message):
    with pytest.raises(InputError, match=message) as told:
        fusionzoo.open_image(FILES / f"{name}.dcm")
    assert f"{name}.dcm" in str(told.value)
    assert "\n" not in str(told.value)


def test_too_large_images_are_refused_before_memory_is_taken(monkeypatch):
    made = dataset(np.zeros((4, 4), np.uint8))
    made.Rows = made.Columns = 65535
    with pytest.raises(InputError, match=r"65535 x 65535 .*the limit is"):
        fusionzoo.open_image(content(made))
    # A deflated file that grows a thousandfold.
    monkeypatch.setattr("fusionzoo.readers.dicom._MOST_BYTES", 100_000)
    with pytest.raises(InputError, match="once it is inflated"):
        fusionzoo.open_image(FILES / "image_dfl.dcm")


def library(path, reading):
    """What pydicom gives for a damaged file; None where it says nothing that can be compared."""
    theirs = pydicom.dcmread(path, force=True)
    if theirs.PhotometricInterpretation != "MONOCHROME2":
        return None
    if "TransferSyntaxUID" not in getattr(theirs, "file_meta", {}):
        return None  # we take the one that the elements are written in
    return apply_modality_lut(pixel_array(theirs, index=0), theirs).astype(reading.values.dtype)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "count"), [("MR_small", 250), ("MR_small_RLE", 150)])
def test_damaged_files_give_an_error_or_the_values_of_pydicom(tmp_path, name, count):
    whole = (FILES / f"{name}.dcm").read_bytes()
    assert check_damage(tmp_path / "a.dcm", whole, library, count=count) > count // 10


# -- results ---------------------------------------------------------------------------------


def ct(**elements):
    values = RNG.integers(0, 2000, (32, 40)).astype(np.int16)
    return dataset(
        values, SOPClassUID=CTImageStorage, Modality="CT", RescaleSlope="1",
        RescaleIntercept="-1024", PixelSpacing=[0.5, 0.5], WindowCenter="40", WindowWidth="400",
        PatientName="Doe^Jane", PatientID="4711", PatientBirthDate="19700101", PatientSex="F",
        StudyInstanceUID="1.2.3", StudyDate="20200101", AccessionNumber="A1",
        InstitutionName="Hospital", FrameOfReferenceUID="1.2.3.4", **elements,
    )  # fmt: skip


def test_a_secondary_capture_names_nobody(tmp_path):
    made = ct()
    (tmp_path / "ct.dcm").write_bytes(content(made))
    mri = RNG.random((32, 40), dtype=np.float32)
    fused = fuse_images(average, tmp_path / "ct.dcm", mri, color_from="ir")
    assert (fused.kind, fused.unit) == ("dicom", "HU")
    fused.save(tmp_path / "fused.dcm")
    written = pydicom.dcmread(tmp_path / "fused.dcm")
    text = str(written)
    for secret in (
        "Doe",
        "4711",
        "1970",
        "20200101",
        "A1",
        "Hospital",
        "1.2.3",
        made.SOPInstanceUID,
    ):
        assert secret not in text
    assert written.SOPClassUID.name == "Secondary Capture Image Storage"
    assert list(written.ImageType) == ["DERIVED", "SECONDARY"]
    assert "Fused by fusionzoo" in written.DerivationDescription
    assert written.PixelSpacing == [0.5, 0.5]
    assert len({written.SOPInstanceUID, written.StudyInstanceUID, written.SeriesInstanceUID}) == 3
    values = apply_modality_lut(written.pixel_array, written)
    np.testing.assert_array_equal(values, fused.values)
    again = fusionzoo.open_image(tmp_path / "fused.dcm")
    assert (again.unit, again.range) == ("HU", fused.range)


def test_the_patient_goes_with_it_if_asked(tmp_path):
    made = ct()
    reading = fusionzoo.open_image(content(made))
    save_image(tmp_path / "a.dcm", keeping_patient(reading))
    written = pydicom.dcmread(tmp_path / "a.dcm")
    for name in (
        "PatientName",
        "PatientID",
        "StudyInstanceUID",
        "StudyDate",
        "FrameOfReferenceUID",
    ):
        assert written[name].value == made[name].value
    assert written.SeriesInstanceUID != made.get("SeriesInstanceUID")
    source = written.SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == made.SOPInstanceUID
    assert "InstitutionName" not in written


def test_text_in_the_pixels_is_warned_of(tmp_path):
    reading = fusionzoo.open_image(content(ct(BurnedInAnnotation="YES")))
    with pytest.warns(FusionZooWarning, match="may name the patient"):
        reading.save(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "values",
    [
        RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8),
        RNG.integers(0, 255, (6, 8), dtype=np.uint8),
        RNG.integers(0, 65535, (6, 8), dtype=np.uint16),
        RNG.normal(5, 2, (6, 8)).astype(np.float32),
    ],
    ids=["colour", "8 bits", "16 bits", "floats"],
)
def test_all_depths_come_back(tmp_path, values):
    save_image(tmp_path / "a.dcm", values)
    written = pydicom.dcmread(tmp_path / "a.dcm")
    again = fusionzoo.open_image(tmp_path / "a.dcm").values
    np.testing.assert_array_equal(
        again.astype(np.float64),
        (
            written.pixel_array
            if values.ndim == 3
            else apply_modality_lut(written.pixel_array, written)
        ).astype(again.dtype),
    )
    exact = values.dtype != np.float32
    np.testing.assert_allclose(again, values, atol=0 if exact else 2e-4)


def test_other_fields_of_view_are_warned_of():
    mri = dataset(RNG.integers(0, 900, (32, 40)).astype(np.int16), PixelSpacing=[0.9, 0.9])
    with pytest.warns(FusionZooWarning, match="shows 20 x 16 mm and .* 36 x 28.8 mm"):
        fuse_images(average, content(ct()), content(mri), color_from="ir")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FusionZooWarning)
        fuse_images(average, content(ct()), content(ct()))


def test_the_command_line(tmp_path, capsys):
    functional = ct()
    (tmp_path / "ct.dcm").write_bytes(content(functional))
    mri = dataset(RNG.integers(0, 900, (32, 40)).astype(np.int16), PixelSpacing=[0.5, 0.5])
    (tmp_path / "mri.dcm").write_bytes(content(mri))
    pair = [str(tmp_path / "ct.dcm"), str(tmp_path / "mri.dcm"), "--model", "lapnet.medical"]
    assert main(["fuse", *pair, "-o", str(tmp_path / "a.png")]) == 0
    out = str(tmp_path / "a.dcm")
    assert main(["fuse", *pair, "-o", out, "--colormap", "hot", "--keep-patient"]) == 0
    written = pydicom.dcmread(out)
    assert (written.PatientName, written.PhotometricInterpretation) == ("Doe^Jane", "RGB")
    pixels = written.pixel_array
    assert (pixels[..., 0] >= pixels[..., 2]).all()  # hot goes by red
    capsys.readouterr()
    assert main(["fuse", *pair, "-o", str(tmp_path / "b.png"), "--keep-patient"]) == 2
    assert "end OUT in .dcm" in capsys.readouterr().err
    assert main(["fuse", *pair, "-o", str(tmp_path / "b.png"), "--colormap", "hott"]) == 1
    assert "'hot'" in capsys.readouterr().err


# -- series ----------------------------------------------------------------------------------


def write_series(folder, count=5, gap=2.5, spacing=(0.8, 0.6), **changes):
    """Slices of one series, in files whose names do not tell the order."""
    folder.mkdir(exist_ok=True)
    volume = RNG.integers(0, 3000, (count, 12, 10)).astype(np.int16)
    series = changes.pop("series", generate_uid())
    for number in range(count):
        made = dataset(
            volume[number], Modality="CT", SeriesInstanceUID=series, FrameOfReferenceUID="1.2.3",
            PixelSpacing=list(spacing), ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-20, -30, 5 + gap * number], RescaleSlope=str(number + 1),
            RescaleIntercept="-1024", InstanceNumber=number + 1, **changes,
        )  # fmt: skip
        (folder / f"{(7 * number) % 5}{number}.dcm").write_bytes(content(made))
    return volume


def test_a_folder_of_slices_is_a_volume(tmp_path):
    stored = write_series(tmp_path / "ct")
    (tmp_path / "ct" / "notes.txt").write_text("no slice")
    volume = read_series(tmp_path / "ct")
    # Slopes differ from slice to slice, as in PET.
    values = stored * (np.arange(5) + 1.0)[:, None, None] - 1024
    np.testing.assert_allclose(volume.values(), values.transpose(2, 1, 0), rtol=1e-6)
    # From the third row's second pixel of slice 4 to the patient: x to the right, y to the front.
    place = volume.affine @ [1, 2, 4, 1]
    np.testing.assert_allclose(place[:3], [20 - 0.6, 30 - 1.6, 15])
    assert (volume.unit, volume.frame) == ("HU", "1.2.3")


def test_a_real_series_lies_where_its_files_say():
    folder = FILES / "dicomdirtests" / "98892001" / "CT5N"
    volume = read_series(folder)
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    assert volume.shape == (16, 16, len(files))
    for one in files:
        x, y, z = one.ImagePositionPatient
        number = np.linalg.solve(volume.affine, [-x, -y, z, 1])
        np.testing.assert_allclose(number[:2], 0, atol=1e-6)
        theirs = apply_modality_lut(one.pixel_array, one)
        np.testing.assert_array_equal(volume.values()[:, :, round(number[2])].T, theirs)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("77654033/CT2", "slices every 1.25 mm, but 202.5 mm between 17106 and 17136"),
        ("77654033/CR1", "does not say where it lies in the patient"),
        ("98892001/CT2N", "differ in orientation"),
        ("98892003/MR2", r"holds 3 series \(MR 2: .*a folder of its own"),
        ("TINY_ALPHA", "holds no DICOM files"),
    ],
)
def test_folders_that_are_no_volume_are_refused(folder, message):
    with pytest.raises(InputError, match=message):
        read_series(FILES / "dicomdirtests" / folder)


def test_slices_that_do_not_fit_are_refused(tmp_path):
    write_series(tmp_path / "a", series="1.2.9")
    first = min((tmp_path / "a").iterdir())
    (tmp_path / "a" / "again.dcm").write_bytes(first.read_bytes())
    with pytest.raises(InputError, match="1 places with several slices"):
        read_series(tmp_path / "a")
    (tmp_path / "a" / "again.dcm").write_bytes(first.read_bytes()[:-20])
    (tmp_path / "a" / first.name).unlink()
    with pytest.raises(InputError, match=r"again\.dcm .*less than expected"):
        read_series(tmp_path / "a")
    with pytest.raises(FusionZooError, match="nothing: no such file"):
        read_series(tmp_path / "nothing")
