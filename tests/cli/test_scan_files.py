"""`stm-keras info` and `predict` of the files that microscopes write."""

import json
import warnings

import numpy as np
import pytest
from helpers import ONCE, SHARED, check_error, lattice_scans, stm
from PIL import Image
from scan_files import createc, matrix_counts, matrix_index, matrix_result, sxm

from stm_keras.readers import read_scan
from stm_keras.readers.info import scan_source

pytestmark = ONCE  # no backend changes what is tested here

KEYS = [
    "path",
    "index",
    "scans",
    "format",
    "image",
    "channel",
    "direction",
    "unit",
    "shape",
]
KEYS += ["size_nm", "slow", "recorded_lines", "channels", "bias_V", "setpoint_A"]
KEYS += ["line_time_s", "angle_deg", "warnings"]
HEIGHTS = lattice_scans([1])[0] * 1e-12
SIZE = (1e-8, 1e-8)


def half(slow):
    """Heights of which the half that is scanned first is there."""
    rows = np.arange(128)[:, None]
    return np.where(rows < 64 if slow == "down" else rows >= 64, HEIGHTS, np.nan)


@pytest.fixture
def write(tmp_path):
    def to_file(data, name="scan.sxm"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return to_file


def told(*arguments):
    result = stm("info", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_info_json_says_what_the_file_says(write):
    path = write(sxm({"Z": ("m", half("up"), half("up"))}, "up", size=SIZE))
    facts = told(path)
    assert list(facts) == KEYS
    assert facts == {
        "path": str(path),
        "index": 0,
        "scans": 1,
        "format": "nanonis",
        "image": "Z forward up",
        "channel": "Z",
        "direction": "forward",
        "unit": "m",
        "shape": [128, 128],
        "size_nm": [10, 10],
        "slow": "up",
        "recorded_lines": 64,
        "channels": ["Z"],
        "bias_V": -1.5,
        "setpoint_A": 5e-11,
        "line_time_s": 0.2,
        "angle_deg": 35,
        "warnings": [],
    }
    assert told(path, "--channel", "Z backward")["image"] == "Z backward up"


def test_info_json_is_one_line_for_each_scan_of_a_file(tmp_path):
    scans = np.stack([HEIGHTS, HEIGHTS * 2, np.full((128, 128), np.nan)])
    np.savez(tmp_path / "a.npz", scans=scans, bias_V=0.5)
    result = stm("info", tmp_path / "a.npz", "--json", "-o", tmp_path / "a.png")
    assert result.exit_code == 3
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert [each["index"] for each in (first, second, third)] == [0, 1, 2]
    assert {each["scans"] for each in (first, second, third)} == {3}
    assert (first["image"], first["unit"], first["bias_V"]) == ("scans", None, 0.5)
    assert "no line of scans was recorded" in third["error"]
    assert (tmp_path / "a-0.png").exists()
    assert (tmp_path / "a-1.png").exists()
    text = stm("info", tmp_path / "a.npz").stdout
    assert "128 lines x 128 pixels, npz, 2 of 3 in its file" in text


def test_the_source_of_a_verdict_is_told_in_units_of_the_key(write):
    path = write(sxm({"Z": ("m", half("up"), None)}, "up", size=SIZE))
    assert scan_source(read_scan(path)) == {
        "image": "Z forward up",
        "direction": "forward",
        "slow": "up",
        "unit": "m",
        "angle": 35,
        "size_nm": [10, 10],
        "bias": -1.5,
        "setpoint": 5e-11,
    }
    assert set(scan_source(None).values()) == {None}
    assert list(scan_source(None)) == list(scan_source(read_scan(path)))


def test_info_json_is_null_where_the_file_does_not_say(tmp_path):
    np.save(tmp_path / "a.npy", HEIGHTS)
    facts = told(tmp_path / "a.npy")
    for key in KEYS[KEYS.index("direction") : KEYS.index("unit") + 1]:
        assert facts[key] is None
    for key in ("size_nm", "slow", "bias_V", "setpoint_A", "line_time_s", "angle_deg"):
        assert facts[key] is None
    assert facts["recorded_lines"] == 128
    assert "does not say whether it was scanned downwards" in facts["warnings"][0]


def test_info_is_readable_and_names_the_lines_that_exist(write):
    result = stm("info", write(sxm({"Z": ("m", half("up"), half("up"))}, "up", size=SIZE)))
    assert result.exit_code == 0, result.stderr
    for phrase in (
        "128 lines x 128 pixels, nanonis\n",
        "size         10 x 10 nm\n",
        "recorded     64 of 128 lines: rows 127 to 64, upwards\n",
        "bias         -1.5 V\n",
        "setpoint     50 pA\n",
        "line time    0.2 s\n",
        "images       Z forward up, Z backward up\n",
    ):
        assert phrase in result.stdout
    assert result.stdout.count("\n") == 8 + 1  # and the angle


def test_info_draws_the_frame_as_it_lay(write, tmp_path):
    ramp = np.arange(128.0)[:, None] * 1e-10 + np.zeros((128, 128))
    ramp[:64, :20] += 5e-9  # bright at the top left
    path = write(sxm({"Z": ("m", ramp, None)}, "up", size=(1e-8, 0.5e-8)))
    result = stm("info", path, "-o", tmp_path / "a.png")
    assert result.exit_code == 0, result.stderr
    assert f"wrote {tmp_path / 'a.png'}" in result.stderr
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int).sum(2)
    assert picture.shape == (256, 512)  # half as high as wide
    assert picture[20, 10] > picture[20, 300] + 100
    assert abs(picture[200, 10] - picture[200, 300]) < 100
    check_error(stm("info", path, "-o", tmp_path / "a.png"), 1, "exists already")
    assert stm("info", path, "-o", tmp_path / "a.png", "--overwrite").exit_code == 0


def test_lines_that_were_not_recorded_are_hatched(write, tmp_path):
    path = write(sxm({"Z": ("m", half("down"), None)}, size=SIZE))
    stm("info", path, "-o", tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert len(np.unique(picture[300:].reshape(-1, 3), axis=0)) == 2
    assert len(np.unique(picture[:200].reshape(-1, 3), axis=0)) > 20


def test_a_channel_may_be_chosen(write):
    current = np.random.default_rng(0).normal(size=(128, 128)) * 1e-12
    path = write(sxm({"Z": ("m", HEIGHTS, HEIGHTS), "Current": ("A", current, None)}))
    assert (
        "shown        Current forward (A)"
        in stm("info", path, "--channel", "Current").stdout
    )
    assert "Z backward (m)" in stm("info", path, "--channel", "z backward").stdout
    check_error(stm("info", path, "--channel", "Q"), 3, "scan.sxm: no channel 'Q'.")


def test_damage_is_one_line(write):
    whole = sxm({"Z": ("m", HEIGHTS, None)})
    check_error(stm("info", write(whole[:-9])), 3, "scan.sxm: is cut short")
    pointer = write(b"version https://git-lfs.github.com/spec/v1\n")
    check_error(stm("info", pointer, "--json"), 3, "is a Git LFS pointer")


def records(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = stm("predict", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_predict_judges_a_scan_file_as_its_lines(model_file, write, tmp_path):
    np.save(tmp_path / "a.npy", HEIGHTS)
    np.save(tmp_path / "b.npy", HEIGHTS[::-1])
    paths = [
        write(sxm({"Z": ("m", HEIGHTS, HEIGHTS)}, "down", size=SIZE), "down.sxm"),
        write(sxm({"Z": ("m", HEIGHTS, HEIGHTS)}, "up", size=SIZE), "up.sxm"),
    ]
    down, up, one, other = (
        list(record["probabilities"].values())
        for record in records(model_file, *paths, tmp_path / "a.npy", tmp_path / "b.npy")
    )
    np.testing.assert_allclose(down, one, atol=2e-4)
    np.testing.assert_allclose(up, other, atol=2e-4)


def test_predict_counts_recorded_lines_alone(model_file, write):
    counts = np.round(HEIGHTS * 1e15)
    paths = [
        write(sxm({"Z": ("m", half(slow), None)}, slow, size=SIZE), f"{slow}.sxm")
        for slow in ("down", "up")
    ]
    paths.append(write(createc([counts] * 2, "up", 32, size=SIZE, both=False), "a.dat"))
    given = records(model_file, *paths)
    assert [record["lines"] for record in given] == [64, 64, 32]


def test_predict_takes_one_image_of_four(model_file, write):
    name = "session--1_1.Z_mtrx"
    counts = (HEIGHTS * 1e12).astype(int)
    data = matrix_counts([(counts, counts)] * 2)
    path = write(matrix_result(data, 4 * 128 * 128), name)
    write(matrix_index(name, 128, 128), "session_0001.mtrx")
    assert len(records(model_file, path)) == 1
    assert len(records(model_file, path, "--channel", "Z backward down")) == 1


def test_predict_lists_what_is_damaged_and_judges_the_rest(model_file, write):
    whole = sxm({"Z": ("m", HEIGHTS, None)}, size=SIZE)
    good = [write(whole, "a.sxm"), write(whole, "c.sxm")]
    bad = write(whole[:-4], "b.sxm")
    result = stm("predict", model_file, good[0], bad, good[1], "--json")
    assert result.exit_code == 3
    given = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["path"] for each in given] == list(map(str, [good[0], bad, good[1]]))
    assert [each["error"] is None for each in given] == [True, False, True]
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {bad}: is cut short")


@pytest.mark.filterwarnings("always:.*constant height")
def test_predict_says_what_it_looked_at(model_file, write):
    flat = np.zeros((128, 128))
    path = write(sxm({"Z": ("m", flat, None), "Current": ("A", HEIGHTS, None)}, size=SIZE))
    result = stm("predict", model_file, path)
    assert result.exit_code == 0
    assert "Warning:" in result.stderr
    assert "Current forward down is taken" in result.stderr


@pytest.mark.filterwarnings("always:.*(constant height|trained on)")
def test_predict_sums_up_equal_warnings_unless_it_is_to_list_them(model_file, write):
    flat, images = np.zeros((128, 128)), {"Current": ("A", HEIGHTS, None)}
    images = {"Z": ("m", flat, None), **images}
    paths = [write(sxm(images, size=SIZE), name) for name in ("a.sxm", "b.sxm", "c.sxm")]
    summed = stm("predict", model_file, *paths).stderr.splitlines()
    (line,) = (line for line in summed if "constant height" in line)
    assert line.startswith(f"Warning: {paths[0]}: the topography is flat")
    assert line.endswith("is taken. And 2 more like it (--verbose lists them).")
    listed = stm("predict", model_file, *paths, "--verbose").stderr.splitlines()
    lines = [line for line in listed if "constant height" in line]
    assert [line.split(": ")[1] for line in lines] == list(map(str, paths))


@pytest.mark.skipif(not (SHARED / "spm").exists(), reason="the shared scans are not here")
@pytest.mark.filterwarnings("ignore")
def test_predict_judges_real_files(model_file):
    names = ("Si_7x7_051.sxm", "A250320.191933.dat", "img_0246_CORRUPT_crlf.sxm")
    names += ("20201111--4_1.Z_mtrx", "stm-nanosurf-nid.nid")
    result = stm(
        "predict", model_file, *(SHARED / "spm" / name for name in names), "--json"
    )
    assert result.exit_code == 3
    given = [json.loads(line) for line in result.stdout.splitlines()]
    # the Createc file ends with five lines of zeros
    assert [record["lines"] for record in given] == [256, 55, None, 400, 256]
