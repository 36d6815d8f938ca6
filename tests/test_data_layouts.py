"""The table of known datasets."""

from __future__ import annotations

import subprocess
import sys

import pytest
from data_helpers import environment_with_package

from fusionzoo.data import get_layout, list_layouts
from fusionzoo.data.masks import MASK_SOURCES


def test_the_table_is_whole():
    layouts = list_layouts()
    names = [layout.name for layout in layouts]
    assert names == sorted(set(names))
    known = {"tno", "roadscene", "msrs", "m3fd", "llvip", "flir", "nir"}
    assert known | {"harvard_ct", "harvard_pet", "harvard_spect"} == set(names)
    for layout in layouts:
        assert get_layout(layout.name) is layout
        assert layout.home.startswith("https://")
        assert all((layout.title, layout.licence, layout.folders, layout.ir_dir, layout.vi_dir))
        assert layout.ir_dir != layout.vi_dir
        assert layout.color_from in ("ir", "vi")
        assert layout.mask in MASK_SOURCES


def test_unknown_names_show_the_known_ones():
    with pytest.raises(ValueError, match=r"layout must be one of .*, not 'TNO'; did you mean"):
        get_layout("TNO")


def test_reading_the_table_loads_no_torch():
    code = (
        "import sys; from fusionzoo.data import list_layouts; assert list_layouts(); "
        "print(sorted({'torch', 'lightning', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment_with_package(),
    )
    assert done.stdout.strip() == "[]"
