"""Turn a scan, whole or partial, into features that tell a lattice from noise.

The spectrum is turned until its strongest lattice lies at angle 0, for the angle of a scan
is the operator's choice and says nothing about the tip.
"""

import numpy as np

from stm_keras.data.preprocess import last_lines, remove_line_trend

CHUNK = 128  # scans of 128 pixels at a time: 64 MiB of spectra
FINER = 2  # steps of the spectrum a period over the width, for lattices fall between
OCTAVE = 8  # radii an octave
LOWEST, HIGHEST = 1.5, 48.0  # periods over the width of a scan of 128 pixels or fewer
ANGLES = np.arange(-90, 90, 4)
LATTICE = (
    2.5,
    14.0,
)  # periods over a width of 128 pixels in which dimer rows are looked for
CLIP = 3.0  # robust standard deviations; what is higher is an adsorbate, not a lattice
HARMONICS = (  # of a 2x1 cell: radius in octaves, angle in degrees from the row direction
    (0.0, 0),  # (1, 0): the rows
    (1.0, 0),  # (2, 0): both atoms of a dimer
    (1.0, 90),  # (0, 1): dimers along a row
    (1.161, 65),  # (1, 1)
    (1.5, 45),  # (2, 1)
    (1.585, 0),  # (3, 0)
    (2.0, 90),  # (0, 2)
    (0.0, 90),  # nothing: what the surface does besides
    (-1.0, 0),
)
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.75, 0.95, 0.99, 1.0)
TINY = 1e-12


def scan_features(heights: np.ndarray) -> np.ndarray:
    """Describe scans by spectra and line statistics.

    Neither unit, scale, offset nor tilt of the heights matters, nor the angle of the
    scan as a whole. A partial scan gives the same features whether its missing
    lines are 0 or not there.

    Args:
        heights: real array of shape `(scans, lines, pixels)`. Lines that were not
            recorded are 0 and come last.

    Returns:
        float32 array of shape `(scans, features)`, finite.
    """
    if not len(heights):
        return _chunk(np.zeros((1, *heights.shape[1:])))[:0]
    step = max(1, min(CHUNK, CHUNK * 128**2 // max(heights[0].size, 1)))
    parts = [
        _chunk(heights[start : start + step]) for start in range(0, len(heights), step)
    ]
    return np.concatenate(parts)


def highest_of(pixels: int) -> float:
    """Return the highest spatial frequency to look at, in periods over the width of a scan.

    48 of 128 pixels or fewer, and in proportion of more, which show as many as that.
    """
    return HIGHEST * max(pixels / 128, 1)


def radii_up_to(highest: float, octave: int = OCTAVE) -> np.ndarray:
    """Return spatial frequencies in periods over the width: float array `(radii,)`.

    So many an octave, from 1.5 periods to about the highest.
    """
    steps = round(octave * np.log2(highest / LOWEST))
    return LOWEST * 2.0 ** (np.arange(steps + 1) / octave)


def may_be_rows(radii: np.ndarray, highest: float) -> np.ndarray:
    """Tell at which of the radii dimer rows are looked for: bool array `(radii,)`."""
    return (LATTICE[0] <= radii) & (LATTICE[1] * highest / HIGHEST >= radii)


def recorded_lines(heights: np.ndarray) -> np.ndarray:
    """Count the lines up to the last that is not 0: int array `(scans,)`, at least 1."""
    return np.maximum(last_lines(heights), 1)


def _chunk(heights):
    count = recorded_lines(heights)
    recorded = np.arange(heights.shape[1]) < count[:, None]
    levelled = _level(heights) * recorded[..., None]
    ordered = np.where(recorded[..., None], levelled, np.nan).reshape(len(levelled), -1)
    spread = 1.4826 * np.nanmedian(abs(ordered), 1) + TINY
    deviation = np.sqrt(np.nanmean(ordered**2, 1)) + TINY
    spread = np.maximum(spread, 1e-3 * deviation)  # a flat scan with one wild line
    scaled = (levelled / spread[:, None, None]).astype(np.float32)
    clipped = scaled.clip(-CLIP, CLIP)
    parts = [
        np.log2(count)[:, None],
        np.log(deviation / spread)[:, None],
        _heights(ordered / spread[:, None]),
        _lines(scaled, clipped, recorded),
        *_spectra(clipped, count),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _level(heights):
    """Take each line's mean and slope out, and divide each scan by its largest value.

    Scans come in metres and in grey levels. What is only rounding becomes 0.
    """
    precision = np.finfo(np.float64 if heights.dtype.kind in "biu" else heights.dtype).eps
    heights = heights.astype(np.float64)
    largest = abs(heights).max((1, 2), keepdims=True)
    levelled = remove_line_trend(heights / np.where(largest > 0, largest, 1))
    flat = abs(levelled).max(2, keepdims=True) <= 8 * precision
    levelled = np.where(flat, 0, levelled)
    largest = abs(levelled).max((1, 2), keepdims=True)
    return levelled / np.where(largest > 0, largest, 1)


def _heights(ordered):
    """Quantiles of the heights: skew, adsorbates, wild lines, range against spread."""
    quantiles = np.nanquantile(ordered, QUANTILES, axis=1).T
    return np.sign(quantiles) * np.log1p(abs(quantiles))


def _lines(scaled, clipped, recorded):
    """How lines differ, how each follows the one before, and their mean spectrum."""
    power = np.where(recorded, (scaled**2).mean(2), np.nan)
    size = np.nanquantile(np.log(power + 1e-4), (0, 0.1, 0.5, 0.9, 1), axis=1).T
    both = recorded[:, 1:]
    step = np.where(both, (np.diff(scaled, axis=1) ** 2).mean(2), np.nan)
    product = (clipped[:, 1:] * clipped[:, :-1]).mean(2)
    square = (clipped**2).mean(2)
    along = product / np.sqrt(square[:, 1:] * square[:, :-1] + 1e-6)
    alone = ~both.any(1)  # a single line has no neighbour
    step[alone], along[alone] = 0.0, 0.0
    along = np.where(both | alone[:, None], along, np.nan)
    if not step.shape[1]:
        step = along = np.zeros((len(scaled), 1))
    jump = np.nanquantile(np.log(step + 1e-4), (0.1, 0.5, 0.9, 1), axis=1).T
    follows = np.nanquantile(along, (0, 0.1, 0.5, 0.9), axis=1).T
    spectrum = abs(np.fft.rfft(clipped * np.hanning(scaled.shape[2]), axis=2)) ** 2
    spectrum = spectrum.sum(1) / recorded.sum(1)[:, None] / scaled.shape[2]
    edges = np.unique(np.round(1.5 ** np.arange(0, 12)).astype(int))
    edges = edges[edges < spectrum.shape[1]]
    bands = np.add.reduceat(spectrum, edges, axis=1) / np.diff([*edges, spectrum.shape[1]])
    return np.concatenate([size, jump, follows, np.log(bands + 1e-4)], axis=1)


def _spectra(clipped, count):
    """The spectrum over radius and angle, turned to its lattice: list of arrays."""
    highest = highest_of(clipped.shape[2])
    radii = radii_up_to(highest)
    log_power = np.log(_polar(clipped, count, radii) + 1e-5)  # (scans, radii, angles)
    background = np.median(log_power, axis=2, keepdims=True)
    peaks = log_power - background
    right = len(ANGLES) // 2
    comb = peaks.copy()
    comb[:, :-OCTAVE] += peaks[:, OCTAVE:].clip(0) / 2
    comb[:, :-OCTAVE] += np.roll(peaks, right, axis=2)[:, OCTAVE:].clip(0) / 2
    comb[:, ~may_be_rows(radii, highest)] = -np.inf
    best = comb.reshape(len(comb), -1).argmax(1)
    radius, angle = np.divmod(best, len(ANGLES))
    order = (angle[:, None] + np.arange(len(ANGLES))) % len(ANGLES)
    turned = np.take_along_axis(log_power, order[:, None, :], axis=2)
    harmonics = np.stack([_harmonic(turned, radius, *each) for each in HARMONICS], 1)
    floor = np.take_along_axis(background[..., 0], radius[:, None], axis=1)
    folded = (turned + np.roll(turned[..., ::-1], 1, axis=2)) / 2  # +angle as -angle
    folded = folded[:, ::2, : right + 1 : 3]
    rows = np.log2(radii[radius])[:, None]
    return [
        harmonics,
        harmonics[:, 1:] - harmonics[:, :1],
        floor,
        rows,
        np.take_along_axis(comb.reshape(len(comb), -1), best[:, None], axis=1),
        background[:, ::2, 0],
        peaks.max(2)[:, ::2],
        folded.reshape(len(folded), -1),
    ]


def _harmonic(turned, radius, octaves, degrees):
    """The largest log power near a point of the reciprocal lattice: array `(scans,)`."""
    step = ANGLES[1] - ANGLES[0]
    ring = np.clip(radius + round(octaves * OCTAVE), 0, turned.shape[1] - 1)
    values = []
    for nearby in (-1, 0, 1):
        row = np.clip(ring + nearby, 0, turned.shape[1] - 1)
        on_ring = turned[np.arange(len(turned)), row]  # (scans, angles)
        for sign in (-1, 1):
            for shift in (-1, 0, 1):
                values.append(on_ring[:, (sign * degrees // step + shift) % len(ANGLES)])
    return np.max(values, 0)


def _polar(clipped, count, radii):
    """Power over radius and angle, of whole and partial scans alike: (scans, radii, angles)."""
    _, lines, pixels = clipped.shape
    frame, width = FINER * max(lines, pixels), FINER * pixels
    at = (np.arange(lines) + 0.5) / count[:, None]
    window = np.where(at < 1, 1 - np.cos(2 * np.pi * at), 0)
    weighted = clipped * (window[..., None] * np.hanning(pixels)).astype(np.float32)
    power = abs(np.fft.rfft2(weighted, s=(frame, width))) ** 2
    power /= (count * pixels)[:, None, None]
    angles = np.deg2rad(ANGLES)
    x = radii[:, None] * np.cos(angles) * FINER
    y = radii[:, None] * np.sin(angles) * frame / pixels
    left, low = np.floor(x).astype(int), np.floor(y).astype(int)
    right, up = x - left, y - low
    left = left.clip(0, power.shape[2] - 2)
    return sum(
        (weight * across) * power[:, (low + j) % frame, left + i]
        for i, across in ((0, 1 - right), (1, right))
        for j, weight in ((0, 1 - up), (1, up))
    )
