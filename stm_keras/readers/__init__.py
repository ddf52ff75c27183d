"""Read scans from the files that microscopes write.

`formats` has the table of formats; each has a module with `parse(path, data) -> ScanFile`,
which finds all images of a file. `scan_file` then takes the one that is meant.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stm_keras.errors import NoImageError, ScanError
from stm_keras.memory import SCANS, charge, one_file
from stm_keras.readers.file_bytes import damage, read_bytes
from stm_keras.readers.formats import FORMATS, HEAD, known_formats, refusal, scan_format
from stm_keras.readers.scan_file import ScanFile, choose, choose_each
from stm_keras.scan import Scan

SCAN_BYTES = 9  # of memory for a pixel of a `Scan`
CURE = "give smaller scans, or fewer in one file"


def read_scan(path: str | Path, channel: str | None = None) -> Scan:
    """Read one image of a scan file of any known format; of several scans, the first.

    Args:
        path: str or `Path`.
        channel: str. As `scan_file.choose` takes it: "Z", "Current", "Z backward up". None
            is the forward topography, or the current of a scan at constant height.

    Returns:
        `Scan`.

    Raises:
        ScanError: The file is missing, damaged, of an unknown format, empty, or holds
            curves instead of an image; it has no such channel; or it needs more memory than
            one file may take, see `memory.budget`.
        MissingExtraError: A library that reads this format is not installed.
    """
    with one_file(path, CURE, ScanError, SCANS):
        return choose(path, _parse(Path(path)), channel)


def read_scans(path: str | Path, channel: str | None = None) -> list[Scan | ScanError]:
    """Read one image of each scan of a file: most files hold one scan, some hold many.

    Args, Raises: As for `read_scan`.

    Returns:
        list of `Scan`, or of `ScanError` where one scan of several cannot be taken, see
        `scan_file.choose_each`.
    """
    with one_file(path, CURE, ScanError, SCANS):
        scan_file = _parse(Path(path))
        pixels = {image.index: image.pixels for image in scan_file.images}
        charge(sum(pixels.values()) * SCAN_BYTES, "all of its scans")
        return list(choose_each(path, scan_file, channel))


def each_scan(
    path: str | Path, channel: str | None = None
) -> tuple[int, Iterator[Scan | ScanError]]:
    """Read the scans of a file as `read_scans` does, but one after the other.

    Args, Raises: As for `read_scan`.

    Returns:
        Tuple of int, how many scans the file holds, and an iterator of what `read_scans`
        lists.
    """
    with one_file(path, CURE, ScanError, SCANS) as account:
        scan_file = _parse(Path(path))
    count = len({image.index for image in scan_file.images})
    return count, _each(account, choose_each(path, scan_file, channel))


def _each(account, scans):
    """Yield scans; the account of their file is open only while one is read."""
    while True:
        with account:
            scan = next(scans, None)
        if scan is None:
            return
        yield scan


def _parse(path: Path) -> ScanFile:
    data = read_bytes(path)
    name = scan_format(path)
    refused = refusal(data[:HEAD])
    if refused:
        raise NoImageError(f"{path}: is {refused[0]}. {refused[1]}.")
    if name is None:
        raise ScanError(f"{path}: is of an unknown format. Known: {known_formats()}.")
    row = FORMATS[name]
    with damage(path, f"{row.title} file"):
        scan_file = row.reader.parse(path, data)
    return scan_file if scan_file.format else replace(scan_file, format=name)
