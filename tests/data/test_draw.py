import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.draw import TILE, contact_sheets, draw_scan
from stm_keras.data.summary import summary, summary_text
from stm_keras.errors import OutputError, UsageError


def made_up(scans=20, **changes):
    rng = np.random.default_rng(0)
    dataset = Dataset(
        images=rng.normal(size=(scans, 12, 16)).astype(np.float32),
        labels=np.arange(scans) % 5 - 1,
        classes=CLASSES,
        lines=np.full(scans, 12),
        session=np.array([f"2015Sep{22 + i // 10}-093111" for i in range(scans)]),
        name=np.array([f"a scan with a rather long name {i}" for i in range(scans)]),
        source="made-up.h5",
    )
    return replace(dataset, **changes)


def test_every_class_has_its_sheet(tmp_path):
    sheets = contact_sheets(made_up(), tmp_path / "sheets", per_class=3)
    assert [path.name for path in sheets] == [
        "0-individual-atoms.png",
        "1-asymmetries-dimers.png",
        "2-rows.png",
        "3-generic-defects.png",
        "4-no-single-class.png",
    ]
    for path in sheets:
        picture = Image.open(path)
        assert picture.mode == "RGB"
        assert picture.size[0] > 3 * TILE
        assert np.asarray(picture).std() > 30
    labels = np.zeros(20, int)
    sheets = contact_sheets(made_up(labels=labels), tmp_path / "one")
    assert [path.name for path in sheets] == ["0-individual-atoms.png"]


def test_the_same_seed_draws_the_same_sheet_of_all_sessions(tmp_path):
    dataset = made_up(labels=np.zeros(20, int), session=np.repeat(["a", "b"], [18, 2]))
    paths = [
        contact_sheets(dataset, tmp_path / str(i), per_class=4, seed=seed)[0]
        for i, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other
    rare = replace(dataset, labels=np.repeat([0, 1], [18, 2]))
    assert len(contact_sheets(rare, tmp_path / "rare", per_class=4)) == 2


@pytest.mark.parametrize("missing", ["session", "name", "both"])
def test_sheets_need_neither_sessions_nor_names(tmp_path, missing):
    keys = ("session", "name") if missing == "both" else (missing,)
    dataset = made_up(**dict.fromkeys(keys))
    assert len(contact_sheets(dataset, tmp_path)) == 5


def test_votes_aborted_lines_and_tip_changes_are_drawn(tmp_path):
    lines = np.where(np.arange(20) < 6, 7, 12)
    plain = contact_sheets(made_up(), tmp_path / "plain")
    marked = contact_sheets(
        made_up(
            lines=lines,
            change_line=np.full(20, 3),
            votes=np.full((20, 4), 0.75),
            raters=np.arange(1, 21),
        ),
        tmp_path / "marked",
    )
    for one, two in zip(plain, marked, strict=True):
        assert one.read_bytes() != two.read_bytes()


def test_sheets_are_replaced_only_when_asked(tmp_path):
    contact_sheets(made_up(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=r"0-individual-atoms.png: exists already. Add"):
        contact_sheets(made_up(), tmp_path, seed=3, per_class=2)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    contact_sheets(made_up(), tmp_path, seed=3, per_class=2, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} != before


def test_a_wrong_number_or_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="`per_class` must be 1 or more. Received: 0"):
        contact_sheets(made_up(), tmp_path, per_class=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        contact_sheets(made_up(), tmp_path / "file" / "sheets")


def test_a_scan_is_drawn_levelled_with_square_pixels():
    row, column = np.mgrid[:10, :20]
    heights = 5.0 * column - 30.0 * row
    heights[3, 10:] += 40
    picture = draw_scan(heights, 10)
    assert picture.shape == (TILE // 2, TILE, 3)
    assert picture.dtype == np.uint8
    assert np.ptp(picture[0].astype(int), axis=0).max() == 0
    assert np.ptp(picture[22].astype(int), axis=0).max() > 100
    assert draw_scan(np.zeros((50, 2)), 50).shape == (2 * TILE, TILE, 3)


def test_heights_need_no_scale_and_one_spike_does_not_spoil_the_contrast():
    heights = np.random.default_rng(0).normal(size=(64, 64))
    np.testing.assert_array_equal(draw_scan(heights, 64), draw_scan(1e-12 * heights, 64))
    spiked = heights.copy()
    spiked[4, 4] = 1e4
    assert draw_scan(spiked, 64)[64:].std() > 40


def test_what_was_not_recorded_is_hatched():
    heights = np.random.default_rng(0).normal(size=(16, 16))
    heights[2, 5] = np.nan
    picture = draw_scan(heights, 8)
    hatched = {(228, 225, 219), (203, 199, 191)}
    assert {tuple(pixel) for pixel in picture[64:].reshape(-1, 3)} == hatched
    assert {tuple(pixel) for pixel in picture[17:23].reshape(-1, 3)} == hatched
    empty = draw_scan(np.full((16, 16), np.nan), 16)
    assert {tuple(pixel) for pixel in empty.reshape(-1, 3)} == hatched


def test_a_constant_scan_is_drawn_in_one_colour():
    picture = draw_scan(np.full((16, 16), 1e6), 16)
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)}) == 1


def test_a_tip_change_is_marked_at_both_edges():
    heights = np.random.default_rng(0).normal(size=(16, 16))
    marked = draw_scan(heights, 16, change_line=4) != draw_scan(heights, 16)
    assert set(np.flatnonzero(marked.any((1, 2)))) <= {31, 32}
    assert not marked[:, 8:-8].any()
    assert marked[:, :8].any()
    assert marked[:, -8:].any()


def test_the_summary_counts_what_there_is():
    lines = np.where(np.arange(20) == 1, 5, 12)
    images = made_up().images.copy()
    images[1, 5:] = 99
    images[2, 0, 0] = -40
    dataset = made_up(
        images=images,
        lines=lines,
        raters=np.repeat([1, 3, 6], [10, 5, 5]),
        unanimous=np.arange(20) < 15,
        run=np.arange(20) % 2,
    )
    facts = summary(dataset)
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["scans"], facts["lines"], facts["pixels"]) == (20, 12, 16)
    assert (facts["dtype"], facts["bytes"]) == ("float32", 20 * 12 * 16 * 4)
    assert facts["heights"][0] == -40
    assert facts["heights"][1] < 99
    assert facts["classes"]["individual atoms"] == {
        "scans": 4,
        "single_class": 3,
        "full_agreement": 2,
        "consensus": 1,
    }
    assert (facts["no_class"], facts["aborted"]) == (4, 1)
    assert (facts["sessions"], facts["runs"]) == (2, 4)
    assert facts["campaigns"] == {"Sep 2015": 20}
    assert facts["raters"] == {"1": 10, "3": 5, "6": 5}
    assert facts["unanimous"] == 0.75
    assert facts["tip_changes"] is facts["line_classes"] is facts["parameters"] is None
    assert facts["digest"] == dataset.digest()
    text = summary_text(facts)
    for part in (
        "20 of 12 lines x 16 pixels, 1 aborted",
        "2, 4 runs; campaigns: Sep 2015 20",
        "10 rated by 1, 5 rated by 3, 5 by 4 or more, 75% unanimous",
        "no rater against",
        "no single class",
    ):
        assert part in text


def test_the_summary_says_what_is_unknown():
    line_labels = np.full((20, 12), 2, np.int8)
    line_labels[:, 9:] = -1
    dataset = made_up(
        session=None,
        line_labels=line_labels,
        change_line=np.where(np.arange(20) < 3, 4, -1),
        parameters={"angle": np.zeros(20), "drift": np.zeros(20)},
    )
    facts = summary(dataset)
    assert facts["sessions"] is facts["campaigns"] is facts["raters"] is None
    assert facts["tip_changes"] == 3
    assert facts["line_classes"]["rows"] == 180
    text = summary_text(facts)
    assert "sessions     unknown" in text
    assert "none, labels only" in text
    assert "in 3 scans" in text
    assert "rows 180" in text
    assert "2 parameters a scan" in text
    assert "no rater against" not in text


def test_the_summary_of_scans_without_recorded_lines():
    facts = summary(made_up(lines=np.zeros(20, int)))
    assert facts["heights"] is None
    assert "none recorded" in summary_text(facts)
