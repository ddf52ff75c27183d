"""What a report and a picture of scans show, and where they name no class."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stm_keras.data.draw import draw_scan
from stm_keras.errors import InputError
from stm_keras.evaluation.style import COLOURS, NO_CLASS, verdict_colour
from stm_keras.inference.judge import ScanVerdict
from stm_keras.inference.scan_result import Judged
from stm_keras.reports.scans import ScanReport, short

CLASSES = ("fine", "poor")
KINDS = {
    "poor": {},
    "unsure": {"unsure": True},
    "unknown surface": {"unsure": True, "unknown_surface": True},
    "unknown size": {"unknown_surface": True, "unknown_size": True},
    "not judged": {"probabilities": None, "reason": "nothing is there"},
}


def judged(kind):
    """Make up a scan with a verdict of this kind."""
    heights = np.random.default_rng(0).normal(size=(8, 16)) * 1e-10
    candidate = SimpleNamespace(
        scan=None,
        index=0,
        heights=heights,
        lines=heights,
        bounds=np.arange(9),
        planned=8,
        unit="m",
        tiles=[],
        remarks=(),
        frame=lambda: (heights, 1.0),
        row_of=float,
    )
    state = np.full((8, 2), [0.3, 0.7])
    about = {"probabilities": (0.3, 0.7), "lines": 8, **KINDS[kind]}
    verdict = ScanVerdict(classes=CLASSES, state=state, change_lines=(), **about)
    return Judged(Path(f"{kind}.sxm"), CLASSES, candidate, verdict)


def test_each_verdict_has_a_colour_of_its_own():
    assert len({*COLOURS, *NO_CLASS.values()}) == len(COLOURS) + len(NO_CLASS)
    assert [verdict_colour(name, CLASSES) for name in CLASSES] == list(COLOURS[:2])
    assert [judged(kind).outcome for kind in KINDS] == list(KINDS)
    assert set(NO_CLASS) == set(KINDS) - {"poor"}


def test_names_of_forty_classes_end_in_the_picture():
    pytest.importorskip("matplotlib")
    from stm_keras.reports.sheets import plot_judged

    scan, names = judged("poor"), tuple(f"class number {number}" for number in range(40))
    verdict = replace(
        scan.verdict,
        classes=names,
        probabilities=(1 / 40,) * 40,
        state=np.full((8, 40), 1 / 40),
    )
    figure = plot_judged(replace(scan, classes=names, verdict=verdict))
    figure.draw_without_rendering()
    words = [text for text in figure.texts if text.get_text()]
    assert max(text.get_window_extent().x1 for text in words) <= figure.bbox.x1
    assert "…" in [text.get_text() for text in words]


def test_a_page_counts_each_verdict_and_names_a_class_where_it_is_one(tmp_path):
    path = tmp_path / "a.html"
    with ScanReport(path, CLASSES) as report:
        for kind in KINDS:
            report.add(judged(kind))
        report.add(Judged(Path("cut.sxm"), CLASSES, error=InputError("cut.sxm: cut.")))
    text = path.read_text()
    assert "<h1>6 scans</h1>" in text
    for kind in KINDS:
        count = 2 if kind == "not judged" else 1
        assert f"{kind}<strong>{count}</strong>" in text
    rows = [row for row in text.splitlines() if row.startswith("<tr ")]
    assert len(rows) == 6
    for kind, row in zip([*KINDS, "not judged"], rows, strict=True):
        assert f'data-verdict="{kind}"' in row
        assert f"</i>{kind}</td>" in row
        assert ("70" in row and "<polygon" in row) == (kind in ("poor", "unsure"))
        assert ("poor</" in row or "perhaps poor" in row) == (kind in ("poor", "unsure"))
    assert "nothing is there" in rows[4]
    assert "cut.sxm: cut." in rows[5]


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_explains_colours_where_there_are_any(kind):
    pytest.importorskip("matplotlib")
    from stm_keras.reports.sheets import plot_judged

    figure = plot_judged(judged(kind))
    words = [text.get_text() for text in figure.texts]
    shown = kind in ("poor", "unsure")
    assert words[0] == ("poor  70 %" if kind == "poor" else kind)
    assert ("fine" in words) == shown
    assert bool(figure.axes[1].collections) == shown
    assert any("nothing is there" in each for each in words) == (kind == "not judged")


@pytest.mark.parametrize("scale", [1, 1e-10])
def test_a_plane_in_float32_is_drawn_flat_and_a_faint_wave_is_not(scale):
    row, column = np.mgrid[:64, :64]
    plane = ((row + 3.1 * column) * scale).astype("f4").astype("f8")
    assert len(np.unique(draw_scan(plane, 64).reshape(-1, 3), axis=0)) == 1
    wave = plane + 1e-4 * scale * np.sin(column * row / 9)
    assert len(np.unique(draw_scan(wave, 64).reshape(-1, 3), axis=0)) > 50


def test_numbers_have_no_exponent():
    assert [short(value, 2) for value in (-130.2, 5.64, 0)] == ["-130", "5.6", "0"]
    assert short(12.3456) == "12.35"
