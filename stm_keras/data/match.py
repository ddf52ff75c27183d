"""Tell whether two reduced scans show the same patch of a surface.

A lattice is the same on every scan of a surface, so heights alone say little: two
scans of one run correlate at 0.9 whatever they show. Everything here therefore works
on whitened spectra, in which the few strong frequencies of the lattice count hardly
more than any other, and what remains is the pattern of defects and of the noise.
"""

import itertools

import numpy as np

from stm_keras.data.preprocess import resample_scan, standardise_lines

SIZE = 64  # pixels and lines of a reduced scan
FLIPS = ("none", "pixels", "lines", "both")  # "both" is a turn by 180 degrees
COARSE = 32  # grid on which shifts are searched, in steps of 1/32 scan
MAX_SHIFT = 9  # of COARSE: a little over a quarter of the scan
_COARSE_BAND = (15, 12)  # cycles a scan along lines and pixels
_BAND = (14 / SIZE, 10 / SIZE)  # cycles a reduced pixel
_WHITENING = 0.85  # 1 would weigh noise at empty frequencies as much as structure
_FINE = np.arange(-1.5, 1.51, 0.5)
_HANN = np.hanning(SIZE + 2)[1:-1].astype(np.float32)
_WINDOW = np.outer(_HANN, _HANN)


def reduce_scans(images, lines):
    """Standardise the lines of scans and reduce them to `SIZE` x `SIZE`.

    Columns of one value at the left and right, as the fill of a panned copy, are left
    out before the lines are levelled: they would tilt every line.

    Args:
        images: array of shape `(scans, lines, pixels)`.
        lines: int array of shape `(scans,)`. Recorded lines.

    Returns:
        float32 array of shape `(scans, SIZE, SIZE)`, 0 where nothing was recorded.
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


def zoom(scans, factor):
    """Enlarge reduced scans about their centre, `(scans, SIZE, SIZE)`."""
    positions = (np.arange(SIZE) - (SIZE - 1) / 2) / factor + (SIZE - 1) / 2
    weights = np.maximum(1 - np.abs(positions - np.arange(SIZE)[:, None]), 0)
    weights = weights.astype(np.float32)
    return weights.T @ scans @ weights


def flip(scans, kind):
    """Flip reduced scans: 0 not, 1 along pixels, 2 along lines, 3 along both."""
    scans = scans[..., ::-1] if kind in (1, 3) else scans
    return scans[..., ::-1, :] if kind in (2, 3) else scans


def describe(scans):
    """Return the logarithmic power spectra of scans at low frequencies.

    A shift does not change a power spectrum, and a flip mirrors it. Taken twice: of
    the scan as it is, exact for a shift that wraps round, and of its middle, better
    for a shift that brings in new surface.

    Args:
        scans: float array of shape `(scans, SIZE, SIZE)`.

    Returns:
        float32 array of shape `(scans, 2, 2 * 16 + 1, 11)`, lines' frequencies
        from negative to positive.
    """
    spectra = []
    for window in (1, np.sqrt(_WINDOW)):
        power = np.abs(np.fft.rfft2(scans * window)) ** 2
        power = np.concatenate([power[:, -16:, :11], power[:, :17, :11]], axis=1)
        power /= power.sum((1, 2), keepdims=True) + 1e-12
        spectra.append(np.log(power + 1e-6))
    return np.stack(spectra, axis=1).astype(np.float32)


def coarse_spectra(scans):
    """Return whitened low-frequency spectra of scans and of their middles.

    Args:
        scans: float array of shape `(scans, SIZE, SIZE)`.

    Returns:
        complex64 array of shape `(scans, 2, COARSE, COARSE // 2 + 1)` of unit power.
    """
    high, wide = _COARSE_BAND
    out = np.zeros((len(scans), 2, COARSE, COARSE // 2 + 1), np.complex64)
    for index, window in enumerate((1, _WINDOW)):
        spectrum = np.fft.rfft2(scans * window)[:, :, : wide + 1]
        spectrum = np.concatenate([spectrum[:, : high + 1], spectrum[:, -high:]], 1)
        spectrum = _whiten(spectrum, 1)
        twice = np.where(np.arange(wide + 1) == 0, 1, 2)
        power = (np.abs(spectrum) ** 2 * twice).sum((1, 2))
        spectrum /= np.sqrt(power)[:, None, None] + 1e-12
        out[:, index, : high + 1, : wide + 1] = spectrum[:, : high + 1]
        out[:, index, -high:, : wide + 1] = spectrum[:, high + 1 :]
    return out


def flip_spectra(spectra, kind):
    """Return what `coarse_spectra` gives of flipped scans."""
    if kind == 0:
        return spectra
    rows = np.fft.fftfreq(COARSE, 1 / COARSE)[:, None] / SIZE
    columns = np.arange(COARSE // 2 + 1) / SIZE
    backwards = -np.arange(COARSE) % COARSE
    if kind == 3:  # the flipped scan starts one pixel late, hence the phases
        return np.conj(spectra) * _phase(rows + columns)
    if kind == 1:
        return np.conj(spectra[..., backwards, :]) * _phase(columns)
    return spectra[..., backwards, :] * _phase(rows)


def find_shifts(first, second, count=2):
    """Find the most likely shifts between pairs of scans by phase correlation.

    Args:
        first, second: complex arrays of shape `(pairs, 2, COARSE, COARSE // 2 + 1)`
            from `coarse_spectra`.
        count: int. Shifts for each of the two spectra.

    Returns:
        Tuple of int array `(pairs, 2 * count, 2)`, shift along lines and pixels in
        reduced pixels, and float array `(pairs, 2 * count)`, height of each peak.
    """
    pairs = len(first)
    shifts, heights = [], []
    far = np.abs(np.fft.fftfreq(COARSE, 1 / COARSE)) > MAX_SHIFT
    for spectrum in range(2):
        product = first[:, spectrum] * np.conj(second[:, spectrum])
        surface = np.fft.irfft2(product, s=(COARSE, COARSE)) * COARSE**2
        surface[:, far] = -1
        surface[:, :, far] = -1
        every = np.arange(pairs)
        for _ in range(count):
            best = surface.reshape(pairs, -1).argmax(1)
            row, column = np.divmod(best, COARSE)
            heights.append(surface[every, row, column])
            shifts.append(
                np.stack([(p + COARSE // 2) % COARSE - COARSE // 2 for p in (row, column)])
            )
            for down, right in itertools.product((-1, 0, 1), repeat=2):
                surface[every, (row + down) % COARSE, (column + right) % COARSE] = -1
    shifts = np.array(shifts).transpose(2, 0, 1) * (SIZE // COARSE)
    return shifts, np.array(heights).T


def similarity(first, second, shifts):
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
    one, two = (_band_spectrum(scans * window) for scans in (one, two))
    rows, columns, twice = _BAND_FREQUENCIES
    product = one * np.conj(two) * twice
    power = [np.sqrt((np.abs(s) ** 2 * twice).sum((1, 2))) for s in (one, two)]
    down = _phase(-_FINE[:, None] * rows)
    right = _phase(-_FINE[:, None] * columns)
    surface = (down @ product @ right.T).real.max((1, 2))
    return surface / (power[0] * power[1] + 1e-12), common


def _has_fill(images, recorded):
    edges = images[:, :, [0, 1, -2, -1]]
    same = (edges == edges[:, :1]) | ~recorded[:, :, None]
    same = same.all(1)
    return same[:, :2].all(1) | same[:, 2:].all(1)


def _phase(turns):
    return np.exp(-2j * np.pi * turns).astype(np.complex64)


def _whiten(spectra, strength):
    size = np.abs(spectra)
    size += 1e-2 * size.mean((-2, -1), keepdims=True) + 1e-12
    spectra = spectra / size**strength
    spectra[..., 0, 0] = 0
    return spectra


def _cut(scans, shifts):
    """Move the overlap to the corner and standardise its lines; with its window."""
    places = np.arange(SIZE)
    start = np.maximum(shifts, 0)
    length = SIZE - np.abs(shifts)
    inside = places < length[:, :, None]
    source = np.minimum(start[:, :, None] + places, SIZE - 1)
    every = np.arange(len(scans))[:, None, None]
    scans = scans[every, source[:, 0, :, None], source[:, 1, None, :]]
    inside_pixels = inside[:, 1].astype(np.float32)
    scans = scans * inside_pixels[:, None]
    pixels = length[:, 1].astype(np.float32)[:, None]
    ramp = (places - (pixels - 1) / 2) * inside_pixels
    mean = scans.sum(-1) / pixels
    slope = (scans @ ramp[:, :, None])[..., 0] / (ramp**2).sum(-1)[:, None]
    scans = scans - mean[..., None] * inside_pixels[:, None]
    scans -= slope[..., None] * ramp[:, None]
    deviation = np.sqrt((scans**2).sum(-1) / pixels)
    scans *= np.where(deviation > 1e-3, 1 / np.maximum(deviation, 1e-3), 0)[..., None]
    taper = np.sin(np.pi * (places + 1) / (length[:, :, None] + 1)) * inside
    window = taper[:, 0, :, None] * taper[:, 1, None, :]
    return scans, window.astype(np.float32)


def _band():
    high, wide = (int(edge * SIZE) for edge in _BAND)
    rows = np.arange(-high, high + 1) / SIZE
    columns = np.arange(wide + 1) / SIZE
    return rows, columns, np.where(columns == 0, 1, 2)


_BAND_FREQUENCIES = _band()
_DOWN = _phase(_BAND_FREQUENCIES[0][:, None] * np.arange(SIZE))
_RIGHT = _phase(np.arange(SIZE)[:, None] * _BAND_FREQUENCIES[1])


def _band_spectrum(scans):
    high = len(_DOWN) // 2
    spectra = _DOWN @ (scans @ _RIGHT)
    size = np.abs(spectra)
    size += 1e-2 * size.mean((-2, -1), keepdims=True) + 1e-12
    spectra = spectra / size**_WHITENING
    spectra[:, high, 0] = 0
    return spectra
