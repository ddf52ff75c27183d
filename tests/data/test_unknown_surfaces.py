"""Files of other surfaces: whose each scan is, and what does not teach."""

import h5py
import numpy as np
import pytest
from helpers import SHARED

from stm_keras.data.unknown_surfaces import names_sources, read_unknown_surfaces
from stm_keras.errors import DatasetError


def write(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.normal(size=(4, 32, 32)).astype("f4") * 1e-10,
        "source": np.array(["a/a", "a/a", "b/b", "b/b"], object),
        "kind": np.array(["molecules", "unclear", "oxide", "noise/blank"], object),
        "licence": np.array(["MIT", "MIT", "GPL-3.0", "GPL-3.0"], object),
        "tiles": (rng.normal(size=(2, 32, 32)) * 1e4).astype("i2"),
        "tile_of": np.array([0, 2], "i4"),
    } | changes
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            if value is not None:
                kind = h5py.string_dtype() if value.dtype == object else None
                file.create_dataset(key, data=value, dtype=kind)
    return path


def test_parts_of_scans_are_of_the_source_of_their_scan(tmp_path):
    path = write(tmp_path / "others.h5")
    assert names_sources(path)
    result = read_unknown_surfaces(path)
    assert result.source.tolist() == ["a/a", "a/a", "b/b", "b/b", "a/a", "b/b"]
    assert result.kind.tolist()[-2:] == ["molecules", "oxide"]
    assert result.whole.tolist() == [True] * 4 + [False] * 2
    assert result.usable.tolist() == [True, False, True, False, True, True]
    assert np.abs(result.images).max((1, 2)).tolist() == [1] * 6  # no unit matters
    assert result.licences() == {
        "a/a": {"licence": "MIT", "scans": 1},
        "b/b": {"licence": "GPL-3.0", "scans": 1},
    }


def test_less_is_needed(tmp_path):
    bare = dict.fromkeys(("kind", "licence", "tiles", "tile_of"))
    result = read_unknown_surfaces(write(tmp_path / "bare.h5", **bare))
    assert len(result) == 4
    assert result.usable.all()
    assert result.licences()["a/a"] == {"licence": "", "scans": 2}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source": None}, "need `source`"),
        ({"source": np.array(["a"], object)}, "`source` must hold one text for each of 4"),
        ({"images": np.zeros((4, 32), "f4")}, "must hold numbers of shape"),
        ({"images": np.full((4, 32, 32), np.nan, "f4")}, "holds NaN or inf"),
        ({"tile_of": np.array([0, 4], "i4")}, "`tiles` and `tile_of` do not fit"),
        ({"tile_of": np.array([0], "i4")}, "`tiles` and `tile_of` do not fit"),
        ({"tiles": np.ones((2, 16, 32), "i2")}, "`tiles` and `tile_of` do not fit"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, changes, told):
    with pytest.raises(DatasetError, match=told):
        read_unknown_surfaces(write(tmp_path / "bad.h5", **changes))


def test_no_file_and_another_file(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_unknown_surfaces(tmp_path / "none.h5")
    assert not names_sources(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DatasetError):
        read_unknown_surfaces(tmp_path / "text.h5")


@pytest.mark.skipif(not (SHARED / "others.h5").exists(), reason="others.h5 is not here")
def test_the_shared_scans():
    result = read_unknown_surfaces(SHARED / "others.h5")
    assert (len(result), result.whole.sum()) == (388, 112)
    assert np.sum(result.usable & result.whole) == 105
    assert len(result.licences()) == 16
