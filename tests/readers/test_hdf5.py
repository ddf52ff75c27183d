"""NeXus and what xarray saves: what each image is, and all that its file tells of it."""

from datetime import datetime

import h5py
import numpy as np
import pytest
from scan_files import nexus, rhkpy_netcdf3, spym_netcdf4, surface

from stm_keras.errors import NoImageError
from stm_keras.readers import read_scan, read_scans
from stm_keras.readers.formats import scan_format

Z, CURRENT = surface(20, 24), surface(20, 24, seed=1)


def test_nexus_tells_direction_by_path_and_units_in_words(tmp_path):
    nexus(tmp_path / "a.nxs", Z, CURRENT)
    scan = read_scan(tmp_path / "a.nxs")
    np.testing.assert_allclose(scan.heights, Z, rtol=1e-9, atol=1e-20)
    assert (scan.channel, scan.direction, scan.unit) == ("Z", "forward", "m")
    assert scan.size == pytest.approx((4e-9, 3e-9))
    assert (scan.bias, scan.setpoint) == (pytest.approx(0.05), pytest.approx(5e-10))
    assert (scan.angle, scan.format) == (30, "nexus")
    assert scan.images == (
        *("Current backward", "Current forward"),
        *("Z backward", "Z forward"),
    )
    backward = read_scan(tmp_path / "a.nxs", "Current backward")
    np.testing.assert_allclose(backward.heights, -CURRENT)
    assert backward.unit == "A"


def test_each_entry_of_nexus_is_a_scan_of_its_own(tmp_path):
    nexus(tmp_path / "a.nxs", Z, CURRENT, entries=("first", "second"))
    scans = read_scans(tmp_path / "a.nxs")
    assert [scan.index for scan in scans] == [0, 1]
    assert [scan.bias for scan in scans] == pytest.approx([0.05, 0.051])
    began = datetime(2025, 6, 5, 15, 0, 51, 250000)  # by the clock on the wall
    assert [scan.started for scan in scans] == [began, began.replace(minute=1)]
    for number, scan in enumerate(scans):
        assert scan.images[-1] == "Z forward"
        np.testing.assert_allclose(scan.heights, Z + number * 1e-9, atol=1e-15)


@pytest.mark.parametrize(
    "value",
    [5, "", "2025-06-05", "noon", "1970-01-01T00:00:00"],
)
def test_a_start_that_is_none_is_left_out(value, tmp_path):
    nexus(tmp_path / "a.nxs", Z, CURRENT)
    with h5py.File(tmp_path / "a.nxs", "a") as file:
        del file["entry/start_time"]
        file["entry/start_time"] = value
    assert read_scan(tmp_path / "a.nxs").started is None


def test_fastspm_tells_when_a_scan_began(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["FW_Z"] = Z
        file.attrs["ExperimentInfo.TimeStart"] = "2025-06-05T15:00:51+02:00"
        file.attrs["ExperimentInfo.TimeEnd"] = "2025-06-05T16:00:00+02:00"
    assert read_scan(tmp_path / "a.h5").started == datetime(2025, 6, 5, 15, 0, 51)


def test_a_setpoint_of_a_frequency_is_no_current(tmp_path):
    nexus(tmp_path / "a.nxs", Z, CURRENT)
    with h5py.File(tmp_path / "a.nxs", "a") as file:
        found = []
        file.visit(lambda name: found.append(name) if "set_point" in name else None)
        file[found[0]].attrs["units"] = "hertz"
    assert read_scan(tmp_path / "a.nxs").setpoint is None


def test_images_of_rhkpy_begin_at_the_bottom_and_hold_both_directions(tmp_path):
    rhkpy_netcdf3(tmp_path / "a.nc", Z, CURRENT)
    scan = read_scan(tmp_path / "a.nc")
    np.testing.assert_allclose(scan.heights, Z)
    assert scan.images == ("Z forward", "Z backward")
    assert (scan.unit, scan.format, scan.angle) == ("m", "netcdf", 20)
    assert scan.size == pytest.approx((24 * 0.2e-9, 20 * 0.2e-9))
    assert (scan.bias, scan.setpoint) == (0.5, pytest.approx(1e-10))
    backward = read_scan(tmp_path / "a.nc", "Z backward")
    np.testing.assert_allclose(backward.heights, CURRENT)


def test_images_of_spym_begin_at_the_top(tmp_path):
    spym_netcdf4(tmp_path / "a.nc", Z, CURRENT)
    assert scan_format(tmp_path / "a.nc") == "netcdf"
    scan = read_scan(tmp_path / "a.nc")
    np.testing.assert_array_equal(scan.heights, Z)
    assert scan.images == ("LIA Current forward", "Z forward")
    assert scan.size == pytest.approx((24 * 0.2e-9, 20 * 0.2e-9))
    assert (scan.bias, scan.setpoint, scan.angle) == (0.5, 1e-10, 20)
    assert scan.line_time == pytest.approx(0.24)
    with h5py.File(tmp_path / "a.nc", "a") as file:
        file["Topography_Forward"].attrs["feedback_active"] = [0]
    scan = read_scan(tmp_path / "a.nc")
    assert scan.channel == "LIA Current"
    assert "feedback was off" in scan.warnings[0]


def test_netcdf_without_axes_or_of_other_things(tmp_path):
    spym_netcdf4(tmp_path / "a.nc", Z, CURRENT)
    with h5py.File(tmp_path / "a.nc", "a") as file:
        del file["Topography_Forward"].attrs["_Netcdf4Coordinates"]
    scan = read_scan(tmp_path / "a.nc")
    np.testing.assert_array_equal(scan.heights, Z)
    assert scan.size is None
    with h5py.File(tmp_path / "b.nc", "w") as file:
        file.attrs["_NCProperties"] = "version=2"
        file["temperature"] = np.ones((30, 40, 50))  # no axis of directions
    with pytest.raises(NoImageError, match="b.nc: is a netCDF file without an image"):
        read_scan(tmp_path / "b.nc")


def test_curves_in_hdf5_are_refused_by_name(tmp_path):
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file["entry/current"] = np.arange(300.0)
    with pytest.raises(NoImageError, match="a.nxs: is an HDF5 file without an image"):
        read_scan(tmp_path / "a.nxs")
