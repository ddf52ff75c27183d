"""`simulate --shards`, `convert --shards`, and commands that read what they write."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, check_error, stm, write_dataset

from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.data.shard_writer import save_shards, write_shards
from stm_keras.errors import OutputError, UsageError
from stm_keras.simulate import simulate

pytestmark = ONCE  # no backend changes what is tested here

GIVEN = ["simulate", "--count", 20, "--seed", 3, "--shard-size", 8, "--workers", 1]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty simulated scans in three shards."""
    path = tmp_path_factory.mktemp("simulated") / "scans"
    result = stm(*GIVEN, "--shards", path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{path}: 20 scans in 3 shards, 0.3 MB, in ")
    return path


def test_shards_are_the_scans_that_simulate_gives(folder, tmp_path):
    whole = simulate(20, 3)
    for number, start in enumerate((0, 8, 16)):
        part = simulate(min(8, 20 - start), 3, start=start)
        save_dataset(part, tmp_path / "part.h5", overwrite=True)
        shard = folder / f"shard-{number:06}.h5"
        assert shard.read_bytes() == (tmp_path / "part.h5").read_bytes()
    loaded = load_dataset(folder)
    np.testing.assert_array_equal(loaded.images[:], whole.images)
    np.testing.assert_array_equal(loaded.line_labels[:], whole.line_labels)
    assert loaded.source == whole.source
    for key, values in whole.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[key], values)
    assert stm("convert", folder, "-o", tmp_path / "one.h5").exit_code == 0
    one = load_dataset(tmp_path / "one.h5")
    assert one.digest() == whole.digest()
    np.testing.assert_array_equal(one.line_labels, whole.line_labels)
    assert one.parameters.keys() == whole.parameters.keys()


def test_workers_change_no_byte(folder, tmp_path):
    given = [*GIVEN[:-1], 2, "--shards", tmp_path / "scans"]
    assert stm(*given).exit_code == 0
    assert contents(tmp_path / "scans") == contents(folder)


def test_a_killed_command_goes_on_and_changes_no_byte(folder, tmp_path):
    path = tmp_path / "scans"
    slow = (
        "import sys, time; import stm_keras.simulate.generate as s; from stm_keras.cli.main "
        "import main; real = s._simulate_shard\n"
        "def slower(seed, config, path, start, scans):\n"
        "    if start: (path.parent / '.shard-000001-half.h5').write_text('half')\n"
        "    if start: time.sleep(60)\n"
        "    return real(seed, config, path, start, scans)\n"
        "s._simulate_shard = slower; main()"
    )
    command = [sys.executable, "-c", slow, *map(str, GIVEN), "--shards", str(path)]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        deadline = time.monotonic() + 60
        while not (path / ".shard-000001-half.h5").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not (path / "shards.json").exists()
    result = stm("info", path)
    check_error(result, 3, "its shards were not all written. Run the command that began it")
    before = (path / "shard-000000.h5").stat().st_mtime_ns
    with (path / "shards.part").open("a") as journal:
        journal.write('{"facts": {"sha')  # the kill came in the middle of a line
    result = stm(*GIVEN, "--shards", path)
    assert result.exit_code == 0, result.stderr
    assert "20 scans in 3 shards, 8 of them there already" in result.stdout
    assert (path / "shard-000000.h5").stat().st_mtime_ns == before
    assert contents(path) == contents(folder)
    again = stm(*GIVEN, "--shards", path)
    assert "20 scans in 3 shards, 20 of them there already" in again.stdout


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("stm_keras.simulate.generate.simulate", interrupted)
    result = stm(*GIVEN, "--shards", tmp_path / "scans")
    assert result.exit_code == 130
    assert "Run the same command again to go on with the shards of" in result.stderr


def test_a_shard_that_went_missing_is_written_again(folder, tmp_path):
    path = tmp_path / "scans"

    def broken(jobs):
        from stm_keras.simulate.generate import _simulate_shard

        for job in jobs[:2]:
            yield _simulate_shard(3, config, *job)
        raise RuntimeError("power is gone")

    from stm_keras.simulate import SimulationConfig
    from stm_keras.simulate.generate import shard_settings

    config = SimulationConfig()
    with pytest.raises(RuntimeError):
        write_shards(path, shard_settings(20, 3, config), 20, 8, broken)
    (path / "shard-000001.h5").unlink()
    result = stm(*GIVEN, "--shards", path)
    assert "8 of them there already" in result.stdout
    assert contents(path) == contents(folder)


def test_shards_of_another_command_are_left_alone(folder, tmp_path):
    before = contents(folder)
    for changed in (["--seed", 4], ["--partial", 0.5], ["--shard-size", 5]):
        result = stm(*GIVEN, *changed, "--shards", folder)
        name = {"--seed": "seed", "--partial": "p_partial", "--shard-size": "shard_size"}
        check_error(
            result,
            1,
            f"holds shards that were asked for differently: {name[changed[0]]}. Choose "
            "another folder, or add --overwrite to replace them.",
        )
    assert contents(folder) == before


def test_overwrite_replaces_shards_and_nothing_else(tmp_path):
    path = tmp_path / "scans"
    stm(*GIVEN, "--shards", path)
    result = stm("simulate", "--count", 5, "--workers", 1, "--shards", path, "--overwrite")
    assert result.stdout.startswith(f"{path}: 5 scans in 1 shards")
    assert sorted(contents(path)) == ["shard-000000.h5", "shards.json"]
    assert len(load_dataset(path)) == 5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    result = stm(*GIVEN, "--shards", tmp_path / "mine", "--overwrite")
    check_error(result, 1, "mine: is not empty and holds no shards. Choose another folder.")
    result = stm(*GIVEN, "--shards", tmp_path / "mine" / "thesis.tex")
    check_error(result, 1, "thesis.tex: is a file. Give a folder for the shards.")


def test_two_writers_do_not_meet(tmp_path):
    def meet(jobs):
        check_error(
            stm(*GIVEN, "--shards", tmp_path, "--overwrite"),
            1,
            "another process writes shards here. Wait for it, or choose another folder.",
        )
        raise RuntimeError("enough")
        yield

    with pytest.raises(RuntimeError, match="enough"):
        write_shards(tmp_path, {"mine": 1}, 3, 2, meet)


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        (["-o", "a.h5", "--shards", "b"], "Give either `-o` for one file or `--shards`"),
        (["--shards", "b", "-o", "a.h5"], "Give either `-o` for one file or `--shards`"),
        ([], "Give either `-o` for one file or `--shards` for a folder of many."),
        (["-o", "a.h5", "--shard-size", 5], "`--shard-size` is for `--shards`."),
    ],
)
@pytest.mark.parametrize("command", [["simulate", "--count", 3], ["convert", "a.npz"]])
def test_one_file_or_one_folder(command, given, phrase):
    check_error(stm(*command, *given), 2, phrase)


def test_a_shard_has_scans(tmp_path):
    result = stm("simulate", "--count", 3, "--shards", tmp_path / "a", "--shard-size", 0)
    assert result.exit_code == 2
    with pytest.raises(UsageError, match="`shard_size` must be 1 or more. Received: 0."):
        save_shards(simulate(3, 0), tmp_path / "a", shard_size=0)


def test_shards_of_different_arrays_are_refused(tmp_path):
    def work(jobs):
        from dataclasses import replace

        from stm_keras.data.shard_writer import write_shard

        for number, (path, start, scans) in enumerate(jobs):
            part = simulate(scans, 0, start=start)
            yield write_shard(replace(part, change_line=None) if number else part, path)

    with pytest.raises(OutputError, match="has other arrays than the first shard"):
        write_shards(tmp_path / "a", {}, 4, 2, work)


def test_convert_writes_shards_and_reads_them(tmp_path):
    source = write_dataset(tmp_path / "scans.h5", count=24)
    given = ["convert", source, "--labels", "soft", "--shard-size", 10]
    result = stm(*given, "--shards", tmp_path / "many")
    assert result.exit_code == 0, result.stderr
    assert "24 scans in 3 shards" in result.stdout
    loaded, whole = load_dataset(tmp_path / "many"), load_dataset(source)
    np.testing.assert_array_equal(loaded.images[:], whole.images)
    for name in ("votes", "raters", "session", "name", "lines", "labels"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(whole, name))
    assert stm(*given[:2], "--shards", tmp_path / "many").exit_code == 1
    again = stm(*given, "--shards", tmp_path / "many")
    assert "24 of them there already" in again.stdout
    result = stm(
        "convert", tmp_path / "many", "--labels", "soft", "-o", tmp_path / "one.h5"
    )
    assert result.exit_code == 0, result.stderr
    assert load_dataset(tmp_path / "one.h5").digest() == whole.digest()
    result = stm("convert", tmp_path / "many", "--shards", tmp_path / "many")
    check_error(result, 2, "would replace what is read from")


def test_info_tells_of_shards_and_verifies_them(folder, tmp_path):
    given = ["info", folder, "-o", tmp_path / "sheets", "--verify"]
    result = stm(*given, "--json")
    assert result.exit_code == 0, result.stderr
    assert f"{folder}: all 3 shards are as they were written." in result.stderr
    facts = json.loads(result.stdout)
    assert facts["scans"] == 20
    assert facts["verified_shards"] == 3
    assert facts["heights"] == [0, 254]
    assert facts["digest"] == load_dataset(folder).digest()
    source = write_dataset(tmp_path / "scans.h5", count=4)
    result = stm("info", source, "--verify")
    check_error(result, 2, "`--verify`:", "is not a folder of shards. Leave it out.")


def test_audit_takes_shards_until_they_are_too_many(folder, monkeypatch):
    result = stm("audit", folder)
    assert result.exit_code == 0, result.stderr
    assert "duplicates" in result.stdout
    monkeypatch.setattr("stm_keras.data.audit.MOST", 19)
    check_error(
        stm("audit", folder), 3, "all scans in memory, 19 at most. Received: 20 in shards"
    )
    assert stm("audit", folder / "shard-000001.h5").exit_code == 0


def test_a_shipped_model_judges_shards(folder):
    result = stm("predict", folder, "--json")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["index"] for record in records] == list(range(20))
    alone = stm("predict", folder / "shard-000002.h5", "--json")
    other = [json.loads(line) for line in alone.stdout.splitlines()]
    assert [r["probabilities"] for r in records[16:]] == [r["probabilities"] for r in other]
