"""Read pictures of scans (PNG, TIFF, JPEG, BMP): the last resort, for heights are lost."""

import io
import warnings

import numpy as np

from stm_keras.errors import ScanError, UnclearError
from stm_keras.readers.colours import picture_heights
from stm_keras.readers.found import Found, Image, choose
from stm_keras.readers.source import MAX_PIXELS, check_shape, damage, read_bytes
from stm_keras.readers.tiff import real_values

MAGICS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")
FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
DEEP = ("I", "F")  # modes of more than 8 bits, and those that begin with I;16
PLAIN = ("L", "LA", "RGB", "RGBA")


def read(path, channel=None):
    """Read a picture as a scan, see `readers.read_scan`."""
    return choose(path, parse(path, read_bytes(path)), channel)


def parse(path, data):
    """Find the image of a picture.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file.

    Returns:
        `Found`.

    Raises:
        ScanError: The picture is damaged, or there are several in the file.
    """
    from PIL import Image as Pillow

    try:
        with damage(path, "picture"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = real_values(path, io.BytesIO(data))
            if values is not None:
                return Found(format="tiff", images=(Image(heights=values, unit=""),))
            with Pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
                return _parse(path, picture)
    except (OSError, SyntaxError, Pillow.DecompressionBombError) as error:
        reason = str(error).split("<")[0].strip() or "unreadable"
        raise ScanError(
            f"{path}: is a damaged picture ({reason}). Export it again."
        ) from None


def _parse(path, picture):
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ScanError(
            f"{path}: is {width} x {height} pixels, too large. Save it smaller."
        )
    check_shape(path, height, width)
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise UnclearError(f"{path}: holds {frames} pictures. Save one scan per file.")
    format_ = picture.format.lower()
    deep = picture.mode in DEEP or picture.mode.startswith("I;16")
    remarks = []
    if deep:
        heights = np.asarray(picture).astype(np.float64)
    else:
        if picture.mode not in PLAIN:
            picture = picture.convert("L" if picture.mode == "1" else "RGB")
        heights, known = picture_heights(np.asarray(picture))
        remarks.append(
            "a picture has 8 bits: heights are coarse and have no unit; the scan file is better"
        )
        if not known:
            remarks.append(
                "unknown colours: heights are a guess, taken from the green channel; export "
                "the scan in grey"
            )
    if format_ == "jpeg":
        remarks.append("JPEG changes heights in blocks of 8 pixels; export as PNG or TIFF")
    image = Image(heights=np.asarray(heights, np.float64), unit="")
    return Found(format=format_, images=(image,), warnings=tuple(remarks))
