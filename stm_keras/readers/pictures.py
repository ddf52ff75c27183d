"""Read pictures of scans (PNG, TIFF, JPEG, BMP): the last resort, for heights are lost."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stm_keras.errors import ScanError, StmKerasError, UnclearError
from stm_keras.memory import borrow, charge
from stm_keras.readers.file_bytes import DAMAGE, damage
from stm_keras.readers.scan_file import Image, ScanFile
from stm_keras.readers.tiff import real_values

RAMP = np.arange(256)
GWYDDION = {0: (0, 0, 0), 88: (168, 40, 15), 175: (243, 194, 93), 255: (255, 255, 255)}
NEAR = 3  # steps of 256 that a colour of a known map may be off
BLOCK = 1 << 16  # pixels that are looked at at a time: they take 100 bytes each

FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
DEEP = ("I", "F")  # modes of more than 8 bits, and those that begin with I;16
PLAIN = ("L", "LA", "RGB", "RGBA")
DECODED = 24  # bytes of memory for a pixel, while Pillow unpacks a picture
HEIGHT_BYTES = 8  # for a pixel of the heights behind it


def parse(path: Path, data: bytes) -> ScanFile:
    """Find the image of a picture."""
    heights, known, kind = read_picture(path, data)
    notes = []
    if known is not None:
        notes.append(
            "a picture has 8 bits: heights are coarse and have no unit; the scan file is better"
        )
    if known is False:
        notes.append(
            "unknown colours: heights are a guess, taken from the green channel; export "
            "the scan in grey"
        )
    if kind == "jpeg":
        notes.append("JPEG changes heights in blocks of 8 pixels; export as PNG or TIFF")
    image = Image(heights=heights, unit="")
    return ScanFile(format=kind, images=(image,), warnings=tuple(notes))


def read_picture(path: str | Path, data: bytes) -> tuple:
    """Read the heights behind a picture.

    Returns:
        Tuple of array `(lines, pixels)`; whether they are behind colours that are known, None
        where there are none: numbers of more than 8 bits; and the kind of picture, "png".

    Raises:
        ScanError: The picture is damaged.
        UnclearError: There are several in the file.
        StmKerasError: It takes more memory than the file may.
    """
    with damage(path, "picture"):
        values = real_values(path, io.BytesIO(data))
    if values is not None:
        return values, None, "tiff"
    with open_picture(path, io.BytesIO(data)) as picture:
        width, height = picture.size
        charge(width * height * HEIGHT_BYTES, f"a picture of {width} x {height} pixels")
        return *heights_of(picture), picture.format.lower()


@contextmanager
def open_picture(
    path: str | Path,
    file: object,
    kind: str = "a damaged picture",
    error: type[StmKerasError] = ScanError,
) -> Iterator:
    """Open a picture with Pillow, if it is one and there is one in the file.

    Yields a `PIL.Image.Image`, whose pixels are not unpacked yet. `file` is a binary file, or
    the path once more; a picture that cannot be read raises `error` and is called `kind`.
    """
    from PIL import Image as Pillow

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with np.errstate(all="ignore"), Pillow.open(file, formats=FORMATS) as picture:
                # To count them it would go through all, each time from the first.
                if getattr(picture, "is_animated", False):
                    unclear = UnclearError if error is ScanError else error
                    raise unclear(
                        f"{path}: holds several pictures. Save one scan per file."
                    )
                width, height = picture.size
                label = f"a picture of {width} x {height} pixels"
                with borrow(width * height * DECODED, label):
                    yield picture
    except PermissionError:
        raise
    except Pillow.DecompressionBombError:
        most = 2 * Pillow.MAX_IMAGE_PIXELS
        text = f"{path}: is a picture of more than {most} pixels. Save it smaller."
        raise error(text) from None
    except (*DAMAGE, OSError, SyntaxError) as reason:
        text = (str(reason) or "unreadable").splitlines()[0].split("<")[0].strip()
        raise error(f"{path}: is {kind} ({text[:160]}). Export it again.") from None


def is_deep(picture: object) -> bool:
    """Tell whether a picture has numbers of more than 8 bits."""
    return picture.mode in DEEP or picture.mode.startswith("I;16")


def heights_of(picture: object) -> tuple:
    """Unpack a `PIL.Image.Image`: the first two results of `read_picture`."""
    if is_deep(picture):
        return np.asarray(picture), None
    if picture.mode not in PLAIN:
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return picture_heights(np.asarray(picture))


def picture_heights(pixels):
    """Return the heights behind a picture, grey or through a colour map that is known.

    The two-slope gold map of MATLAB and Gwyddion, R = min(2v, 255), G = v,
    B = max(2v - 256, 0), is linear in G; a luminance would bend the heights. Gwyddion's
    own map is inverted by the sum of its colours, which grows steadily.

    Args:
        pixels: uint8 or uint16 array of shape `(lines, pixels)` or
            `(lines, pixels, channels)`, with 2 or 4 channels where the last is alpha.

    Returns:
        Tuple of array `(lines, pixels)` and bool: whether the heights are linear
        (a grey picture or a known map) or a guess.
    """
    if pixels.ndim == 2:
        return pixels, True
    if pixels.shape[2] in (1, 2):
        return pixels[:, :, 0], True
    step = max(BLOCK // max(pixels.shape[1], 1), 1)
    blocks = [pixels[start : start + step] for start in range(0, len(pixels), step)]
    if all(map(_is_grey, blocks)) or all(map(_is_gold, blocks)):
        return pixels[:, :, 1], True
    stops = np.array(list(GWYDDION.values())).T
    table = np.stack([np.interp(RAMP, list(GWYDDION), stop) for stop in stops], axis=1)
    heights = np.empty(pixels.shape[:2])
    for index, block in enumerate(blocks):
        value = np.interp(block[:, :, :3].sum(2, dtype=int), table.sum(1), RAMP)
        shown = np.stack([np.interp(value, RAMP, table[:, i]) for i in range(3)], axis=2)
        if (abs(shown - block[:, :, :3]) > NEAR).any():
            return pixels[:, :, 1], False
        heights[index * step : index * step + len(block)] = value
    return heights, True


def _is_grey(block):
    return not np.ptp(block[:, :, :3], axis=2).any()


def _is_gold(block):
    red, green, blue = np.moveaxis(block[:, :, :3].astype(int), 2, 0)
    gold = abs(np.minimum(2 * green, 255) - red) <= 2
    return (gold & (abs(np.maximum(2 * green - 256, 0) - blue) <= 2)).all()
