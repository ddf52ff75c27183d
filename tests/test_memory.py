import sys

import pytest

from stm_keras import memory
from stm_keras.errors import DatasetError, InputError, ScanError, UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 10**9), ("512MiB", 512 << 20), ("1.5g", 15 * 10**8), (" 2000000 ", 2000000)],
)
def test_the_variable_is_a_size_as_people_write_it(monkeypatch, text, size):
    monkeypatch.setenv("STM_KERAS_MEMORY", text)
    assert memory.budget() == memory.budget(most=5) == size


@pytest.mark.parametrize("text", ["much", "-1GB", "0", "1e9", "12", "1 XB", "9" * 400])
def test_a_variable_that_is_no_size_is_refused_in_one_line(monkeypatch, text):
    monkeypatch.setenv("STM_KERAS_MEMORY", text)
    with pytest.raises(UsageError, match="STM_KERAS_MEMORY must be a size") as error:
        memory.budget()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_without_it_a_quarter_of_the_machine_is_allowed(monkeypatch):
    monkeypatch.delenv("STM_KERAS_MEMORY", raising=False)
    monkeypatch.setattr(memory, "machine", lambda: 16 << 30)
    assert memory.budget() == 4 << 30
    assert memory.budget(memory.SCANS) == 2 * 10**9
    monkeypatch.setattr(memory, "machine", lambda: 4 << 30)
    assert memory.budget(memory.SCANS) == 1 << 30


def test_the_limit_of_the_control_group_counts(monkeypatch, tmp_path):
    job = tmp_path / "slurm" / "job_1" / "step_0"
    job.mkdir(parents=True)
    (job.parent / "memory.max").write_text("300000000\n", encoding="utf-8")
    (job / "memory.max").write_text("max\n", encoding="utf-8")
    own = tmp_path / "cgroup"
    own.write_text("0::/slurm/job_1/step_0\n", encoding="utf-8")
    paths = {"/proc/self/cgroup": own}
    path_of = memory.Path
    monkeypatch.setattr(memory, "Path", lambda *p: path_of(paths.get(p[0], p[0]), *p[1:]))
    monkeypatch.setattr(memory, "CGROUPS", (("", str(tmp_path), "memory.max"),))
    assert memory.machine.__wrapped__() == 300_000_000


def test_all_that_one_file_takes_is_counted_together(monkeypatch):
    monkeypatch.setenv("STM_KERAS_MEMORY", "10MB")
    with memory.one_file("a.npz", "convert it to HDF5", ScanError) as account:
        memory.charge(4_000_000)
        with memory.borrow(5_000_000), pytest.raises(ScanError):
            memory.charge(4_000_000)
        memory.charge(4_000_000)
        with memory.one_file("a.npz", "nothing") as same:
            assert same is account
        with pytest.raises(ScanError) as error:
            memory.charge(3_000_000, "12 arrays")
    assert str(error.value) == (
        "a.npz: needs 11 MB of memory or more (12 arrays), and 10 MB are allowed for one file. "
        "Set STM_KERAS_MEMORY=14MB, or convert it to HDF5."
    )


def test_each_file_has_a_budget_of_its_own(monkeypatch):
    monkeypatch.setenv("STM_KERAS_MEMORY", "10MB")
    for name in ("a.npy", "b.npy"):
        with memory.one_file(name, "give a part of it", DatasetError):
            memory.charge(9_000_000)


def test_a_promise_without_end_is_a_short_message(monkeypatch):
    monkeypatch.setenv("STM_KERAS_MEMORY", "1GB")
    with memory.one_file("a.npy", "copy it again"), pytest.raises(InputError) as error:
        memory.charge(10**400)
    assert len(str(error.value)) < 200


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits data")
def test_c_gets_no_more_memory_than_is_left(monkeypatch):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setenv("STM_KERAS_MEMORY", "10MB")
    with memory.limited(), memory.limited():
        bytearray(20 * 10**6)
        with pytest.raises(MemoryError):
            bytearray(2 * 10**9)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
