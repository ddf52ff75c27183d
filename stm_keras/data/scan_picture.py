"""Draw the frame of a scan file as it lay under the tip."""

from stm_keras.data.draw import draw_scan
from stm_keras.files import atomic

WIDTH = 512


def save_picture(scan, path, overwrite=False):
    """Write a scan as PNG: top of the frame on top, lines levelled, what is missing hatched.

    Args:
        scan: `Scan`.
        path: str or `Path`.
        overwrite: bool. Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    from PIL import Image

    frame = scan.frame()
    picture = draw_scan(frame, len(frame), width=WIDTH, aspect=scan.aspect)
    with atomic(path, overwrite) as temporary:
        Image.fromarray(picture).save(temporary, "PNG")
