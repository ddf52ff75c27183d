"""Tell whether two reduced scans show the same patch of a surface.

A lattice is the same on every scan of a surface, so heights alone say little: two
scans of one run correlate at 0.9 whatever they show. Everything here therefore works
on whitened spectra, in which the few strong frequencies of the lattice count hardly
more than any other, and what remains is the pattern of defects and of the noise.
"""

import numpy as np

from stm_keras.data.preprocess import resample_scan, standardise_lines

SIZE = 40  # lines and pixels of a reduced scan
MAX_SHIFT = 11  # of SIZE: a little over a quarter of the scan
_BAND = (14, 10)  # cycles a scan along lines and pixels
_WHITENING = 0.85  # 1 would weigh noise at empty frequencies as much as structure
_FINE = np.arange(-0.75, 0.76, 0.25)  # reduced pixels beside a whole shift
_ROWS = np.arange(-_BAND[0], _BAND[0] + 1) / SIZE  # cycles a reduced pixel
_COLUMNS = np.arange(_BAND[1] + 1) / SIZE
_POSITIONS = np.arange(SIZE, dtype=np.float32)
# The spectrum of real heights is the same at -f as at f, conjugated, so half of the columns
# are kept: rows from -14 to 14, columns from 0 to 10. All but column 0 count twice.
_TWICE = np.where(_COLUMNS == 0, 1, 2).astype(np.float32)


def _taper(size):
    taper = np.sqrt(np.hanning(size + 2)[1:-1]).astype(np.float32)
    return np.outer(taper, taper)


_MIDDLE = _taper(SIZE)
_CORNERS = tuple(
    np.pad(_taper(30), ((down, 10 - down), (right, 10 - right)))
    for down in (0, 10)
    for right in (0, 10)
)


def reduce_scans(images: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Standardise the lines of scans and reduce them to `SIZE` x `SIZE`.

    Columns of one value at the left and right, as the fill of a panned copy, are left
    out before the lines are levelled: they would tilt every line.

    `images` are `(scans, lines, pixels)`, of which `lines`, `(scans,)`, were recorded. What was
    not is 0 in the result: float32 array `(scans, SIZE, SIZE)`.
    """
    recorded = np.arange(images.shape[1]) < lines[:, None]
    images = np.where(np.isfinite(images) & recorded[:, :, None], images, 0)
    standard = standardise_lines(images)
    for scan in np.flatnonzero(_has_fill(images, recorded)):
        flat = np.ptp(images[scan][recorded[scan]], axis=0) == 0
        if flat.all():
            continue
        inner = slice(flat.argmin(), len(flat) - flat[::-1].argmin())
        standard[scan] = 0
        standard[scan][:, inner] = standardise_lines(images[scan][:, inner])
    standard[~recorded] = 0
    return resample_scan(standard, SIZE, SIZE)


def zoom(scans: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge reduced scans about their centre, `(scans, SIZE, SIZE)`."""
    positions = (np.arange(SIZE) - (SIZE - 1) / 2) / factor + (SIZE - 1) / 2
    # (SIZE, SIZE): bilinear, one pixel of the scan for each row, one of the result a column.
    weights = np.maximum(1 - np.abs(positions - np.arange(SIZE)[:, None]), 0)
    weights = weights.astype(np.float32)
    return weights.T @ scans @ weights


def flip(scans: np.ndarray, kind: int) -> np.ndarray:
    """Flip reduced scans: 0 not, 1 along pixels, 2 along lines, 3 along both."""
    scans = scans[..., ::-1] if kind in (1, 3) else scans
    return scans[..., ::-1, :] if kind in (2, 3) else scans


def describe(scans: np.ndarray, windows: int = 6) -> np.ndarray:
    """Return the logarithmic power spectra of scans at low frequencies.

    A shift does not change a power spectrum, and a flip mirrors it. Taken of the scan
    as it is, exact for a shift that wraps round; of its middle, better for a shift that
    brings in new surface; and of the four corners (upper left, upper right, lower left,
    lower right), because after a large shift one corner is all that is left.

    Returns:
        float32 array of shape `(scans, windows, rows, columns)`: as it is, middle, corners, or
        the first of these; frequencies along lines from negative to positive.
    """
    spectra = []
    for window in (1, _MIDDLE, *_CORNERS)[:windows]:
        power = np.abs(_band(scans * window)) ** 2
        power /= power.sum((1, 2), keepdims=True) + 1e-12
        spectra.append(np.log(power[..., 1:] + 1e-6))
    return np.stack(spectra, axis=1)


def coarse_spectra(scans: np.ndarray) -> np.ndarray:
    """Return whitened low-frequency spectra of scans and of their middles.

    complex64 array of shape `(scans, 2, rows, columns)`, each of unit power.
    """
    windows = (1, _MIDDLE)
    spectra = np.stack([_whiten(_band(scans * each), 1) for each in windows], axis=1)
    power = (np.abs(spectra) ** 2 * _TWICE).sum((-2, -1), keepdims=True)
    return spectra / (np.sqrt(power) + 1e-12)


def flip_spectra(spectra: np.ndarray, kind: int) -> np.ndarray:
    """Return what `coarse_spectra` gives of scans flipped as by `flip`."""
    rows, columns = _phase(_ROWS[:, None]), _phase(_COLUMNS)
    if kind == 3:  # a flipped scan starts one pixel late, hence the phases
        return np.conj(spectra) * (rows * columns)
    if kind == 1:
        return np.conj(spectra[..., ::-1, :]) * columns
    return spectra[..., ::-1, :] * rows if kind == 2 else spectra


def find_shifts(first: np.ndarray, second: np.ndarray, count: int = 2) -> tuple:
    """Find the most likely shifts between pairs of scans by phase correlation.

    Args:
        first, second: `(pairs, 2, rows, columns)`, from `coarse_spectra`.
        count: shifts for each of the two spectra.

    Returns:
        Tuple of int array `(pairs, 2 * count, 2)`, shift along lines and pixels in
        reduced pixels, and float array `(pairs, 2 * count)`, height of each peak.
    """
    product = first * np.conj(second)
    high = _BAND[0]
    # In the order of FFTs: frequencies from 0 up, then the negative ones.
    padded = np.zeros((*product.shape[:2], SIZE, SIZE // 2 + 1), np.complex64)
    padded[:, :, : high + 1, : product.shape[-1]] = product[:, :, high:]
    padded[:, :, -high:, : product.shape[-1]] = product[:, :, :high]
    surface = np.fft.irfft2(padded, s=(SIZE, SIZE)) * SIZE**2
    near = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)  # negative indices wrap, as shifts do
    surface = surface[:, :, near[:, None], near].reshape(-1, near.size**2)
    every = np.arange(len(surface))  # (pairs * 2): each pair as it is, then its middle
    peaks = []
    for _ in range(count):
        best = surface.argmax(1)
        peaks.append((best, surface[every, best]))
        # The next peak is not a neighbour of this one.
        for step in (0, 1, -1, near.size, -near.size):
            surface[every, np.clip(best + step, 0, near.size**2 - 1)] = -1
    best, heights = (
        np.stack(values, -1).reshape(len(first), -1) for values in zip(*peaks, strict=True)
    )
    return np.stack(np.divmod(best, near.size), -1) - MAX_SHIFT, heights


def similarity(first: np.ndarray, second: np.ndarray, shifts: np.ndarray) -> tuple:
    """Correlate the whitened spectra of what two scans have in common.

    Both are cut to the overlap and their lines standardised again there, because the
    mean and slope of a line are not those of its part.

    Args:
        first, second: float arrays of shape `(pairs, SIZE, SIZE)`.
        shifts: int array of shape `(pairs, 2)`. Pixel p of `second` shows what pixel
            p + shift of `first` shows.

    Returns:
        Tuple of float array `(pairs,)`, -1 to 1, and int array `(pairs,)`, the lines
        of the overlap that have structure in both.
    """
    one, window = _cut(first, shifts)
    two, _ = _cut(second, -shifts)
    common = (one.any(-1) & two.any(-1)).sum(-1)
    one, two = (_whiten(_band(scans * window), _WHITENING) for scans in (one, two))
    power = [(np.abs(s) ** 2 * _TWICE).sum((1, 2)) for s in (one, two)]
    product = one * np.conj(two) * _TWICE
    # The correlation at shifts of parts of a pixel: (pairs, 7, 7), of which the best counts.
    surface = (_FINE_DOWN @ product @ _FINE_RIGHT).real.max((1, 2))
    return surface / (np.sqrt(power[0] * power[1]) + 1e-12), common


def _has_fill(images, recorded):
    edges = images[:, :, [0, 1, -2, -1]]
    same = (edges == edges[:, :1]) | ~recorded[:, :, None]
    same = same.all(1)
    return same[:, :2].all(1) | same[:, 2:].all(1)


def _phase(turns):
    return np.exp(2j * np.pi * turns).astype(np.complex64)


_DOWN = _phase(-_ROWS[:, None] * np.arange(SIZE))
_RIGHT = _phase(-_COLUMNS * np.arange(SIZE)[:, None])
_FINE_DOWN = _phase(_FINE[:, None] * _ROWS)
_FINE_RIGHT = _phase(_COLUMNS[:, None] * _FINE)


def _band(scans):
    """Low frequencies of scans, by a product because so few of them are needed."""
    return _DOWN @ (scans @ _RIGHT)


def _whiten(spectra, strength):
    size = np.abs(spectra)
    size += 1e-2 * size.mean((-2, -1), keepdims=True) + 1e-12
    spectra = spectra / size**strength
    spectra[..., _BAND[0], 0] = 0
    return spectra


def _cut(scans, shifts):
    """Move the overlap to the corner and standardise its lines; with its window.

    Lines and pixels behind the overlap are 0: all pairs stay `(pairs, SIZE, SIZE)`.
    """
    moved = np.zeros_like(scans)
    for scan, (down, right) in enumerate(shifts.tolist()):
        part = scans[scan, max(down, 0) :, max(right, 0) :]
        part = part[: SIZE - abs(down), : SIZE - abs(right)]
        moved[scan, : part.shape[0], : part.shape[1]] = part
    length = (SIZE - np.abs(shifts)).astype(np.float32)[:, :, None]
    inside = length > _POSITIONS  # (pairs, 2 for lines and pixels, SIZE)
    pixels = length[:, 1]
    # Mean and slope of a line are its products with `trend`, `(pairs, 2, SIZE)`, and what
    # they take out is their product with `along`.
    ramp = (_POSITIONS - (pixels - 1) / 2) * inside[:, 1]
    trend = np.stack([inside[:, 1] / pixels, ramp / (ramp**2).sum(-1, keepdims=True)], 1)
    along = np.stack([inside[:, 1].astype(np.float32), ramp], axis=1)
    moved -= (moved @ trend.transpose(0, 2, 1)) @ along
    deviation = np.sqrt(np.einsum("slp,slp->sl", moved, moved) / pixels)
    flat = deviation < 1e-3
    moved *= np.where(flat, 0, 1 / np.maximum(deviation, 1e-3))[:, :, None]
    taper = np.sin(np.float32(np.pi) * (_POSITIONS + 1) / (length + 1)) * inside
    return moved, taper[:, 0, :, None] * taper[:, 1, None, :]
