"""Small scan files of every format, made up byte by byte: what each test reads."""

import struct
import zlib

import numpy as np

LINES, PIXELS = 12, 16
SIZE = (3.2e-9, 2.4e-9)  # m: pixels are square


def surface(lines=LINES, pixels=PIXELS, seed=0):
    """Make up heights of about 1e-10 m in which no flip goes unseen, float64.

    Row 0 is the top, column 0 the left edge; lines are alike, as on a surface.
    """
    row, column = np.mgrid[:lines, :pixels]
    wave = np.sin(2 * np.pi * column / 7) + 0.5 * np.sin(row / 3)
    noise = np.random.default_rng(seed).normal(0, 0.05, (lines, pixels))
    return (
        ((wave + 0.1 * row + 0.2 * (column == 1) + noise) * 1e-10).astype("f4").astype("f8")
    )


def sxm(images, slow="down", tabs=True, size=SIZE, **entries):
    """Bytes of a Nanonis file.

    Args:
        images: dict of channel name to tuple (unit, forward, backward) as they lay; the
            backward one may be None.
        slow: str.
        tabs: bool. False separates columns by spaces, as a converter does.
        size: tuple of float, m.
        **entries: Header entries that differ, with _ for -.
    """
    lines, pixels = next(iter(images.values()))[1].shape
    rows, blocks = ["Channel\tName\tUnit\tDirection\tCalibration\tOffset"], []
    for number, (name, (unit, forward, backward)) in enumerate(images.items()):
        way = "forward" if backward is None else "both"
        rows.append(f"{number}\t{name}\t{unit}\t{way}\t1.0E+0\t0.0E+0")
        stored = [forward] if backward is None else [forward, backward[:, ::-1]]
        blocks += [s[::-1] if slow == "up" else s for s in stored]
    header = {
        "NANONIS_VERSION": "2",
        "SCANIT_TYPE": "            FLOAT            MSBFIRST",
        "SCAN_PIXELS": f"       {pixels}       {lines}",
        "SCAN_TIME": "             2.000E-1             2.000E-1",
        "SCAN_RANGE": f"           {size[0]:E}           {size[1]:E}",
        "SCAN_ANGLE": "            3.500E+1",
        "SCAN_DIR": slow,
        "BIAS": "            -1.500E+0",
        "Z-CONTROLLER": "\tName\ton\tSetpoint\tP-gain\n\tlog\t1\t5.000E-11 A\t1E-12 m",
        "DATA_INFO": "\n".join("\t" + row for row in rows),
    }
    header |= {key.replace("_CONTROLLER", "-CONTROLLER"): v for key, v in entries.items()}
    text = "".join(f":{key}:\n{value}\n" for key, value in header.items())
    text = text if tabs else text.replace("\t", "    ")
    data = b"".join(np.asarray(block, ">f4").tobytes() for block in blocks)
    return text.encode() + b"\n:SCANIT_END:\n\n\n\x1a\x04" + data


def createc(
    images, slow="down", recorded=None, both=True, size=SIZE, version="co32", **entries
):
    """Bytes of a Createc file. `images` are arrays of counts, as they lay.

    Args:
        version: str. "co32" for deflated floats, "et32" for floats, "eter" for integers.
        **entries: Header entries that differ; None leaves one out.
    """
    images = [np.array(image, "f4") for image in images]
    lines, pixels = images[0].shape
    for image in images:
        if recorded is not None:  # lines are stored by their place, the rest is 0
            image[recorded:] = 0 if slow == "down" else image[recorded:]
            if slow == "up":
                image[: lines - recorded] = 0
    header = {
        "Num.X / Num.X": pixels,
        "Num.Y / Num.Y": lines,
        "Channels / Channels": len(images),
        "DAC-Type": "20bit",
        "ZPiezoconst": 20.0,
        "GainZ / GainZ": 10,
        "Gainpre 10^": 9,
        "BiasVoltage / BiasVolt.[mV]": 500.0,
        "FBLogIset / LogIset": 100,
        "Rotation": 15,
        "Sec/line:": 0.5,
        "Length x[A]": size[0] * 1e10,
        "Length y[A]": size[1] * 1e10,
        "ScanXMode": 2 if both else 1,
        "ScanYMode": 1 if slow == "down" else 2,
    } | entries
    text = "".join(f"{key}={v}\r\n" for key, v in header.items() if v is not None)
    head = f"[Param{version}]\r\n{text}".encode("cp1252").ljust(16380, b"\r") + b"DATA"
    block = np.concatenate([[0.0], *(image.ravel() for image in images)])
    data = block.astype("<i2" if version == "eter" else "<f4").tobytes()
    return head + (zlib.compress(data) if version == "co32" else data)


def netcdf3(path, stored, name="scan-M-Xp-Topo.nc", unit="AA", control="TopDown", step=0.5):
    """Write a GXSM3 file. `stored` are counts of `step` Angstrom, as GXSM stores them."""
    from scipy.io import netcdf_file

    lines, pixels = stored.shape
    with netcdf_file(path, "w") as file:
        sizes = {"time": 1, "value": 1, "dimy": lines, "dimx": pixels}
        for dimension, size in sizes.items():
            file.createDimension(dimension, size)
        field = file.createVariable("FloatField", "f4", tuple(sizes))
        field[:] = stored[None, None]
        field.ZLabel = "Z"
        for key, text in (("basename", f"/data/{name}"), ("spm_scancontrol", control)):
            file.createDimension(key, len(text))
            file.createVariable(key, "c", (key,))[:] = list(text)
        values = {"rangex": 32.0, "rangey": 24.0, "dz": step, "alpha": 10.0}
        values |= {"sranger_mk2_hwi_bias": -0.5, "sranger_mk2_hwi_scan_speed_x": 160.0}
        values |= {"sranger_mk2_hwi_mix0_set_point": 0.02}
        for key, value in values.items():
            variable = file.createVariable(key, "f8", ())
            variable.data = np.array(value, ">f8")
            variable.unit = unit
            variable.var_unit = "nA" if "mix0" in key else "Ang"


def gxsm4(path, stored, name="scan-M-Xp-Topo.nc", unit="AA", mode=3, hardware="rpspmc"):
    """Write a GXSM4 file: netCDF 4, that is HDF5.

    Args:
        path: str, `Path`, or file opened to be written.
        stored: array of counts of half a `unit`.
        name: str. What GXSM called the file.
        mode: int. What the Z servo did with the current: 3 followed its logarithm.
        hardware: str.
    """
    import h5py

    with h5py.File(path, "w") as file:
        file["FloatField"] = stored[None, None].astype("f4")
        file["FloatField"].attrs["ZLabel"] = "Z" if unit == "AA" else "Mon"
        file["dz"] = [0.5]
        file["dz"].attrs["unit"] = unit
        file["rangex"], file["rangey"] = [32.0], [24.0]
        file[f"{hardware}_hwi_Bias"] = [0.25]
        file[f"{hardware}_hwi_Z_Servo_SetPoint"] = [0.01]
        file[f"{hardware}_hwi_Z_Servo_SetPoint"].attrs["var_unit"] = "nA"
        file[f"{hardware}_hwi_Z_Servo_Transfer_Mode"] = [float(mode)]
        file["spm_scancontrol"] = np.frombuffer(b"BottomUp", "S1")
        file["basename"] = np.frombuffer(f"/data/{name}".encode(), "S1")


def nexus(path, z, current, entries=("entry",)):
    """Write an NXstm file as pynxtools does, each entry with heights 1 nm above the last.

    Args:
        path: str, `Path`, or file opened to be written.
        z, current: arrays as they lay, forward; backward ones are their negative.
    """
    import h5py

    with h5py.File(path, "w") as file:
        for number, entry in enumerate(entries):
            group = file.create_group(entry)
            group.attrs["NX_class"] = "NXentry"
            for name, image, unit in (
                ("current", current, "ampere"),
                ("z", z, "nanometer"),
            ):
                for way, sign in (("backward", -1), ("forward", 1)):
                    data = group.create_group(f"{name}_{way}")
                    data[name] = (sign * image[::-1]) * (1e9 if name == "z" else 1) + number
                    data[name].attrs["units"] = unit
                    for axis, count in zip("yx", image.shape, strict=True):
                        data[axis] = np.linspace(0, 1, count)
            inside = group.create_group("instrument")
            fields = {
                "sample_bias_voltage/bias_voltage": (50.0 + number, "millivolt"),
                "height_piezo_sensor/spm_positioner/z_controller/set_point": (0.5, "nA"),
                "scan_environment/spm_scan_control/scan_region/scan_range_x": (4.0, "nm"),
                "scan_environment/spm_scan_control/scan_region/scan_range_y": (3.0, "nm"),
                "scan_environment/spm_scan_control/scan_region/scan_angle": (30.0, "deg"),
            }
            for name, (value, unit) in fields.items():
                inside[name] = value
                inside[name].attrs["units"] = unit


def rhkpy_netcdf3(path, forward, backward):
    """Write what rhkpy's images are saved as by xarray with scipy: classic netCDF."""
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for axis, size in (("y", len(forward)), ("x", forward.shape[1]), ("scandir", 2)):
            file.createDimension(axis, size)
        file.createDimension("string8", 8)
        letters = file.createVariable("scandir", "c", ("scandir", "string8"))
        letters[:] = [list(way.ljust(8, "\0")) for way in ("forward", "backward")]
        for axis, size in (("y", len(forward)), ("x", forward.shape[1])):
            file.createVariable(axis, "f8", (axis,))[:] = np.arange(size) * 0.2
            file.variables[axis].units = "nm"
        image = file.createVariable("topography", "f8", ("y", "x", "scandir"))
        image[:] = np.stack([forward[::-1], backward[::-1]], -1) * 1e9
        image.units = "nm"
        for key, value, unit in (("bias", 0.5, "V"), ("setpoint", 100.0, "pA")):
            setattr(file, key, value)
            setattr(file, f"{key} units", unit)
        setattr(file, "scan angle", 20.0)


def spym_netcdf4(path, forward, current):
    """Write what spym's images are saved as by xarray: HDF5 with numbered axes.

    The axis of the lines is called x, that of the pixels y; the top line comes first.
    """
    import h5py

    told = {"bias": [0.5], "setpoint": [1e-10], "setpoint_units": "A", "scan_angle": [20.0]}
    told |= {"time_per_point": [0.01], "feedback_active": [1]}
    with h5py.File(path, "w") as file:
        file.attrs["_NCProperties"] = "version=2,netcdf=4.9.3"
        pairs = (
            ("Topography_Forward", forward, "m"),
            ("LIA_Current_Forward", current, "A"),
        )
        for number, (name, image, unit) in enumerate(pairs):
            file[name] = image
            file[name].attrs["units"] = unit
            file[name].attrs["_Netcdf4Coordinates"] = np.array([0, 1], "i4") + 2 * number
            for key, value in told.items():
                file[name].attrs[key] = value
            for place, axis in enumerate("xy"):
                scale = file.create_dataset(
                    f"{name}_{axis}", data=np.arange(image.shape[place]) * 2e-10
                )
                scale.attrs["units"] = "m"
                scale.attrs["CLASS"] = np.bytes_("DIMENSION_SCALE")
                scale.attrs["_Netcdf4Dimid"] = np.int32(2 * number + place)


def nid(forward, backward, up=False, recorded=None):
    """Bytes of a Nanosurf file. Counts (int) as they lay; Z of 1e-7 m per 2^16."""
    lines, pixels = forward.shape
    text = "[DataSet]\r\nVersion=2\r\nGroupCount=2\r\n"
    for group, name in enumerate(("Scan forward", "Scan backward")):
        text += f"Gr{group}-Name={name}\r\nGr{group}-Count=1\r\nGr{group}-Ch0=D-{group}\r\n"
    text += (
        f"\r\n[DataSet-Info]\r\nScan direction={'Up' if up else 'Down'}\r\n"
        "Time/Line=100ms\r\nTip voltage=1,5 V\r\nSetpoint=1,25nA\r\nRotation=5 \xb0\r\n"
    )
    for group in range(2):
        text += (
            f"\r\n[D-{group}]\r\nPoints={pixels}\r\nLines={lines}\r\nSaveBits=16\r\n"
            "Dim0Range=3.2e-09\r\nDim1Range=2.4e-09\r\nDim2Range=1e-07\r\n"
            "Dim2Min=-5e-08\r\nDim2Unit=m\r\nDim2Name=Z-Axis\r\n"
        )
    data = b""
    for image in (forward, backward):
        image = np.array(image, "<i2")
        if recorded is not None:
            image[recorded:] = 0
        data += image[::-1].tobytes()
    return text.encode("latin-1") + b"\r\n#!" + data


def ibw(array, name="Z_Forward_Down", unit="m", labels=(), note="Bias: 500 mV\r"):
    """Bytes of an Igor wave of version 5. `array` as Igor keeps it: [x, y(, layer)]."""
    array = np.asarray(array, "<f4")
    shape = [*array.shape, 0, 0, 0, 0][:4]
    label = b"".join(text.encode().ljust(32, b"\0") for text in ("", *labels))
    label = label if labels else b""
    data = array.tobytes(order="F")
    parts = (320 + len(data), 0, len(note), 0, 0, 0, 0, 0, 0, 0, len(label), 0, 0)
    head = struct.pack("<hh13iii", 5, 0, *parts, 0, 0)[:64].ljust(64, b"\0")
    wave = (
        struct.pack("<IIIihh", 0, 0, 0, array.size, 2, 0) + bytes(6) + struct.pack("<h", 0)
    )
    wave += name.encode().ljust(32, b"\0") + bytes(8)  # two indices of Igor's own
    wave += struct.pack("<4i", *shape) + struct.pack("<4d", 2e-10, 2e-10, 1, 1) + bytes(32)
    wave += unit.encode().ljust(4, b"\0") + b"m\0\0\0m\0\0\0" + bytes(8)
    wave = wave.ljust(320, b"\0")
    total = int(np.frombuffer(head + wave, "<i2").sum(dtype=int))
    head = head[:2] + struct.pack("<H", -total % 65536) + head[4:]
    return head + wave + data + note.encode() + label


def matrix_result(counts, planned):
    """Bytes of a MATRIX result file: `counts` recorded of so many planned."""
    counts = np.asarray(counts, "<i4").ravel()
    described = bytes(20) + struct.pack("<II", planned, len(counts)) + bytes(8)
    inner = _block("CSED", described) + _block("ATAD", counts.tobytes())
    return b"ONTMATRX0101" + b"TLKB" + struct.pack("<I", len(inner) + 4) + bytes(12) + inner


def matrix_index(name, lines, pixels, retrace=(True, True), channel="Z", more=()):
    """Bytes of a MATRIX index in which `name` (str) is recorded with these settings.

    `more` are further blocks after it, as of a session that went on.
    """
    blocks = [_settings(lines, pixels, retrace), _channels(channel)]
    blocks += [_timed("FERB", struct.pack("<I", 0) + _text(name)), *more]
    return b"ONTMATRX0101" + _timed("ATEM", bytes(4)) + b"".join(blocks)


def matrix_counts(images, forward_only=False):
    """Counts in the order of acquisition of up to four images (forward, backward, ...).

    Args:
        images: list of (forward, backward) int arrays as they lay; the first pair was
            scanned upwards, the second downwards.
        forward_only: bool. Whether backward lines are left out.
    """
    stored = []
    for number, (forward, backward) in enumerate(images):
        rows = range(len(forward))
        for row in reversed(rows) if number == 0 else rows:
            stored.append(forward[row])
            if not forward_only:
                stored.append(backward[row][::-1])
    return np.concatenate(stored)


def _block(name, content):
    return name.encode() + struct.pack("<I", len(content)) + content


def _timed(name, content):
    return name.encode() + struct.pack("<I", len(content)) + bytes(8) + content


def _text(text):
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def _property(name, value, unit="--"):
    if isinstance(value, bool):
        packed = b"LOOB" + struct.pack("<I", value)
    elif isinstance(value, int):
        packed = b"GNOL" + struct.pack("<i", value)
    else:
        packed = b"BUOD" + struct.pack("<d", value)
    return _text(name) + _text(unit) + bytes(4) + packed


def _settings(lines, pixels, retrace):
    groups = {
        "XYScanner": {
            "X_Retrace": retrace[0],
            "Y_Retrace": retrace[1],
            "Points": pixels,
            "Lines": lines,
            "Width": SIZE[0],
            "Height": SIZE[1],
            "X_Offset": 0.0,
            "Y_Offset": 0.0,
            "Angle": 0,
            "Raster_Time": 0.01,
        },
        "GapVoltageControl": {"Voltage": 1.25},
        "Regulator": {"Setpoint_1": 3e-10},
    }
    content = bytes(4) + struct.pack("<I", len(groups))
    for name, properties in groups.items():
        content += _text(name) + struct.pack("<I", len(properties))
        content += b"".join(_property(key, value) for key, value in properties.items())
    return _timed("APEE", content)


def _channels(channel):
    """The block that tells what channels are called and how counts become heights."""
    entry = bytes(4) + struct.pack("<I", 7) + bytes(8) + _text(channel) + _text("Meter")
    none, one = struct.pack("<I", 0), struct.pack("<I", 1)
    named = _block("TCID", bytes(8) + none + one + entry + none)
    linear = b"".join(
        _text(key) + b"BUOD" + struct.pack("<d", value)
        for key, value in (("Factor", 1e12), ("Offset", 0.0))
    )
    entry = bytes(4) + struct.pack("<I", 7) + _text("TFF_Linear1D") + _text("Meter")
    return _timed(
        "YSCC", bytes(4) + named + _block("REFX", entry + struct.pack("<I", 2) + linear)
    )
