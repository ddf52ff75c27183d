import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stm_keras.data.audit import audit
from stm_keras.data.audit_findings import SEVERITIES, judge_orientation, measure_orientation
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.load import load_dataset
from stm_keras.data.preprocess import remove_line_trend, standardise_lines
from stm_keras.data.split import Split, split_dataset
from stm_keras.errors import DatasetError

NOTTINGHAM = Path(__file__).parents[3] / "shared" / "data" / "nottingham.h5"
needs_nottingham = pytest.mark.skipif(
    not NOTTINGHAM.exists(), reason="../shared/data/nottingham.h5 is not there"
)


def made_up_heights(seed, lines=40, pixels=48):
    """Rows of a lattice at any angle; noise smooth along a line, rough between lines."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:lines, :pixels] / 40
    angle = rng.uniform(0, np.pi)
    phase = 2 * np.pi * (4 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform())
    noise = rng.normal(size=(lines, pixels + 4))
    noise = sum(noise[:, i : i + pixels] for i in range(5)) / np.sqrt(5)
    blob = 2 * np.exp(-((y - rng.uniform()) ** 2 + (x - rng.uniform()) ** 2) / 0.02)
    return np.cos(phase) + 0.2 * noise + blob


def raw(heights, seed):
    """As a microscope gives them: tilted, and every line at its own height."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: heights.shape[0], : heights.shape[1]] / 40
    return heights + 3 * x - 2 * y + np.cumsum(rng.normal(0, 0.1, len(heights)))[:, None]


def picture(heights):
    levelled = remove_line_trend(heights)
    return np.round(254 * (levelled - levelled.min()) / np.ptp(levelled)).astype(np.uint8)


FORMS = {
    "raw": raw,
    "levelled": lambda heights, seed: remove_line_trend(heights),
    "standardised": lambda heights, seed: standardise_lines(heights),
    "pictures": lambda heights, seed: picture(heights),
}


def made_up(scans=24, sessions=6, **changes):
    heights = [made_up_heights(seed) for seed in range(scans)]
    dataset = Dataset(
        images=np.stack([remove_line_trend(h) for h in heights]).astype(np.float32),
        labels=np.arange(scans) % 4,
        classes=CLASSES,
        lines=np.full(scans, 40),
        session=np.array([f"day {i * sessions // scans}" for i in range(scans)]),
        source="made-up.h5",
    )
    return replace(dataset, **changes)


def sentences(result, subject):
    return [(f.severity, f.text) for f in result.findings if f.subject == subject]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("turned", [False, True])
def test_lines_along_the_wrong_axis_are_noticed_in_every_form(form, turned):
    images = np.stack([FORMS[form](made_up_heights(s), s) for s in range(20)])
    images = images.swapaxes(1, 2) if turned else images
    lines = np.full(20, images.shape[1])
    result = judge_orientation(*measure_orientation(images, lines))
    assert result.axis == ("pixels" if turned else "lines")
    assert result.scans == 20
    assert (result.noise < 0.1) if turned else (result.noise > 0.9)


def test_levelling_along_the_wrong_axis_does_not_mislead():
    images = np.stack([standardise_lines(made_up_heights(s).T) for s in range(20)])
    result = judge_orientation(*measure_orientation(images, np.full(20, 48)))
    assert result.axis == "pixels"
    assert result.levelled_lines > 0.9


def test_levelling_decides_where_the_noise_is_silent():
    noise = np.array([0.5, -0.5, 0.3, -0.2, np.nan])
    result = judge_orientation(noise, np.array([-1.0, -1, -1, 0, np.nan]))
    assert (result.axis, result.scans) == ("pixels", 4)
    assert judge_orientation(noise, np.zeros(5)).axis == "unclear"


def test_scans_without_lines_or_structure_are_not_judged():
    images = np.stack([made_up_heights(0), np.zeros((40, 48)), made_up_heights(1)])
    noise, levelled = measure_orientation(images, np.array([12, 40, 30]))
    np.testing.assert_array_equal(np.isfinite(noise), [False, False, True])
    np.testing.assert_array_equal(np.isfinite(levelled), [False, False, True])
    assert judge_orientation(noise[:2], levelled[:2]).axis == "unclear"


def test_the_audit_warns_of_transposed_scans():
    dataset = made_up()
    ok = sentences(audit(dataset), "line axis")
    assert ok[0][0] == "ok"
    assert ok[0][1].startswith("Rows are scan lines, by the noise of 100% of 24 scans")
    images = np.ascontiguousarray(dataset.images[:, :, :40].swapaxes(1, 2))
    ((severity, text),) = sentences(audit(replace(dataset, images=images)), "line axis")
    assert severity == "warning"
    assert "Columns look like the scan lines" in text
    assert "swap the last two axes" in text
    few = replace(dataset, images=images).take(range(8))
    ((severity, text),) = sentences(audit(few), "line axis")
    assert (severity, "So few scans may mislead" in text) == ("note", True)


def test_a_clean_dataset_has_no_warning_but_few_scans():
    result = audit(made_up())
    assert {f.subject for f in result.findings if f.severity == "warning"} == {"classes"}
    assert sentences(result, "duplicates")[0][0] == "ok"
    assert sentences(result, "damage") == [
        ("ok", "No NaN, no constant and no missing lines.")
    ]
    order = [SEVERITIES.index(f.severity) for f in result.findings]
    assert order == sorted(order)


def test_copies_within_a_session_leak_under_p1_only():
    dataset = made_up(80, 10)
    images = dataset.images.copy()
    images[1::2] = images[::2, ::-1]
    session = np.array([f"day {i // 8}" for i in range(80)])
    dataset = replace(dataset, images=images, session=session)
    result = audit(dataset)
    assert result.duplicates["pairs"] == result.duplicates["groups"] == 40
    assert result.duplicates["kinds"] == {"flipped": 40}
    assert result.duplicates["across_sessions"] == 0
    assert result.duplicates["leaks"]["p1"]["held_out"] > 0
    assert result.duplicates["leaks"]["p2"]["held_out"] == 0
    assert result.duplicates["leaks"]["given"] is None
    texts = {text[:2]: severity for severity, text in sentences(result, "leaks")}
    assert texts == {"P1": "note", "P2": "ok"}
    assert "80 of 80 scans (100.0%) show the same place" in result.text()


def test_copies_in_other_sessions_are_a_warning():
    dataset = made_up()
    images = dataset.images.copy()
    images[[4, 20]] = images[[0, 1]]
    result = audit(replace(dataset, images=images))
    (note, warning) = sorted(sentences(result, "duplicates"))
    assert note[0] == "note"
    assert warning[0] == "warning"
    assert "2 pairs of duplicates lie in different sessions" in warning[1]
    assert result.duplicates["exact_across"] == 2


def test_a_given_split_is_checked():
    dataset = made_up()
    images = dataset.images.copy()
    images[1] = images[0]
    dataset = replace(dataset, images=images)
    parts = {
        "train": np.arange(0, 20, 2),
        "validation": np.arange(1, 20, 2),
        "test": np.arange(20, 24),
    }
    split = Split("p1", 0, None, parts, None, "by hand")
    result = audit(dataset, split)
    assert result.duplicates["leaks"]["given"]["held_out"] == 1
    given = [(s, t) for s, t in sentences(result, "leaks") if t.startswith("The given")]
    assert given == [
        (
            "warning",
            "The given split puts 1 group of duplicates on both sides: 1 scan held out has a "
            "copy in training. Split by session, or by the duplicate groups.",
        )
    ]
    with pytest.raises(DatasetError, match="`split` names scan 23, but made-up.h5 holds"):
        audit(dataset.take(range(8)), split)


def test_a_split_by_session_without_sessions_is_checked_too():
    dataset = made_up(session=None)
    groups = np.arange(24) // 2
    images = dataset.images.copy()
    images[1::2] = images[::2]
    dataset = replace(dataset, images=images, labels=np.arange(24) // 6)
    split = split_dataset(dataset, "p2", groups=groups, fractions=(0.5, 0.25, 0.25))
    result = audit(dataset, split)
    assert result.duplicates["leaks"]["given"]["held_out"] == 0
    assert result.duplicates["leaks"]["p2"] is None
    ((severity, text),) = sentences(result, "duplicates")
    assert severity == "warning"
    assert "Sessions are unknown: split with the duplicate groups" in text
    assert "Sessions are unknown, so P2" in sentences(result, "sessions")[0][1]


def test_damage_is_counted_line_by_line():
    dataset = made_up()
    images = dataset.images.copy()
    images[2, 5, 7] = np.nan
    images[3] = 4
    images[5, 10:13] = 1
    images[5, 20] = np.arange(48)
    images[6, 30:] = np.nan
    lines = dataset.lines.copy()
    lines[6] = 30
    result = audit(replace(dataset, images=images, lines=lines))
    assert result.damage == {
        "not_finite": 1,
        "constant_scans": 1,
        "constant_lines": 4,
        "scans_with_constant_lines": 1,
        "aborted": 1,
    }
    assert sentences(result, "NaN")[0][0] == "warning"
    assert "remove these scans, or lower `lines`" in sentences(result, "NaN")[0][1]
    assert sentences(result, "constant scans")[0][0] == "warning"
    assert sentences(result, "constant lines")[0][0] == "note"
    assert sentences(result, "aborted scans")[0][0] == "note"


def test_classes_and_sessions_are_tabulated():
    labels = np.repeat([0, 1, 2, -1], [12, 6, 2, 4])
    result = audit(made_up(labels=labels, sessions=6))
    table = result.text().split("\n\n")[1].splitlines()
    assert table[0].split() == ["session", "scans", *" ".join(CLASSES).split()]
    assert table[1].split() == ["day", "0", "4", "4", "0", "0", "0"]
    assert len(table) == 7
    assert result.labels["counts"]["individual atoms"] == 12
    assert sentences(result, "labels")[0][1].startswith(
        "4 of 24 scans (16.7%) carry several"
    )
    assert "No complete scan of class generic defects" in sentences(result, "classes")[0][1]
    assert "With 2 of rows its scores say little" in sentences(result, "classes")[1][1]
    ((severity, text),) = sentences(result, "sessions")
    assert severity == "warning"
    assert "4 sessions of 6 hold one class only (day 0, day 1, day 2, day 3)" in text
    assert "day 0" in result.text()


def test_few_and_unequal_sessions_are_noticed():
    session = np.array(["day 0"] * 20 + ["day 1"] * 4)
    texts = [text for _, text in sentences(audit(made_up(session=session)), "sessions")]
    assert any(text.startswith("Only 2 sessions") for text in texts)
    assert any(text.startswith("Session day 0 holds 83% of all scans") for text in texts)


def test_votes_are_reported():
    raters = np.array([1] * 6 + [2] * 18)
    unanimous = np.array([True] * 12 + [False] * 12)
    result = audit(made_up(raters=raters, unanimous=unanimous))
    assert result.votes == {
        "raters": {"1": 6, "2": 18},
        "unanimous": 0.5,
        "unanimous_of_several": 1 / 3,
    }
    assert (
        "6 of 24 scans (25.0%) were rated by one person"
        in sentences(result, "raters")[0][1]
    )
    assert sentences(result, "votes") == [
        (
            "note",
            "All votes are 0 or 1 on 50% of scans, and on 33% of those with two raters or "
            "more: labels are noisy, and no score can be much better than they.",
        )
    ]
    assert sentences(audit(made_up(raters=raters + 1)), "raters")[0][0] == "ok"


def test_simulated_scans_need_no_sessions():
    dataset = made_up(session=None, parameters={"angle": np.zeros(24)})
    assert sentences(audit(dataset), "sessions")[0][0] == "ok"


def test_an_audit_goes_to_json_and_back():
    calls = []
    result = audit(made_up(), progress=lambda done, total: calls.append((done, total)))
    assert json.loads(json.dumps(result.to_json())) == result.to_json()
    assert calls[-1][0] == calls[-1][1]


def test_an_empty_dataset_is_refused():
    with pytest.raises(DatasetError, match="made-up.h5: holds no scans to audit"):
        audit(made_up().take([]))


@needs_nottingham
def test_real_scans_are_told_from_transposed_ones():
    dataset = load_dataset(NOTTINGHAM)
    scans = np.random.default_rng(0).choice(np.flatnonzero(dataset.single_class()), 200)
    images = dataset.take(scans).images
    for form in (
        images,
        standardise_lines(images),
        standardise_lines(images.swapaxes(1, 2)),
    ):
        noise, _ = measure_orientation(form, np.full(200, 128))
        turned, _ = measure_orientation(form.swapaxes(1, 2), np.full(200, 128))
        assert np.mean(np.sign(noise) == -np.sign(turned)) > 0.97
    noise, levelled = measure_orientation(images, np.full(200, 128))
    assert np.mean(noise > 0) > 0.97
    assert np.mean(levelled > 0) > 0.97
