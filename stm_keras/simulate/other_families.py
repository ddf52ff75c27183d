"""The surfaces that are not H:Si(100): how each is drawn, and at what scale it is seen."""

from dataclasses import dataclass

from stm_keras.simulate import unknown_lattices, unknown_shapes


@dataclass(frozen=True)
class Family:
    """A family of surfaces.

    Args:
        draw: callable `(rng, place) -> heights`, float array `(lines, pixels)` in any
            unit, from a `Place`.
        size_nm: tuple of (low, high). Widths in which the family can be recognised.
        blur_px: (low, high). Width of the apex, in pixels of a scan of 128.
        adsorbates: float. Probability of bright and dark spots.
        measured: bool. False for a picture that no surface made: it is recorded
            without noise, hum or feedback of its own.
    """

    draw: object
    size_nm: tuple
    blur_px: tuple = (0.3, 1.0)
    adsorbates: float = 0.5
    measured: bool = True


_ANY_NM = ((3.0, 80.0),)
OTHERS = {
    "graphite": Family(unknown_lattices.graphite, ((1.2, 5.0),)),
    "metal (111)": Family(unknown_lattices.metal_111, ((1.3, 6.0),)),
    "moire": Family(unknown_lattices.moire, ((5.0, 25.0),), adsorbates=0.3),
    "square lattice": Family(unknown_lattices.square, ((1.0, 2.6), (8.5, 11.5))),
    "oblique lattice": Family(unknown_lattices.oblique, ((4.0, 12.0),)),
    "Si(111)-7x7": Family(unknown_lattices.silicon_7x7, ((7.0, 26.0),)),
    "Au(111) herringbone": Family(unknown_lattices.herringbone, ((30.0, 130.0),)),
    "molecular layer": Family(unknown_lattices.molecular_layer, ((7.0, 24.0),)),
    "molecules": Family(unknown_shapes.molecules, ((6.0, 60.0),), (0.5, 1.5), 0),
    "terraces": Family(unknown_shapes.terraces, ((40.0, 1000.0),), (0.4, 2.5), 0.3),
    "islands": Family(unknown_shapes.islands, ((20.0, 500.0),), (0.4, 2.5), 0.2),
    "grains": Family(unknown_shapes.grains, ((50.0, 3000.0),), (0.4, 2.5), 0),
    "roughness": Family(unknown_shapes.roughness, ((20.0, 3000.0),), (0.3, 2.0), 0.2),
    "ripples": Family(unknown_shapes.ripples, ((30.0, 3000.0),), (0.4, 2.0), 0.2),
    "grating": Family(unknown_shapes.grating, ((1000.0, 30000.0),), (0.4, 2.0), 0.2),
    "blank": Family(unknown_shapes.blank, _ANY_NM, measured=False),
    "white noise": Family(unknown_shapes.white_noise, _ANY_NM, measured=False),
    "hum": Family(unknown_shapes.hum, _ANY_NM, measured=False),
    "saturated": Family(unknown_shapes.saturated, _ANY_NM, measured=False),
}
OTHER_KINDS = tuple(OTHERS)
