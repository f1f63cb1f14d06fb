import os
from pathlib import Path

import pytest

from runtime.engine.threads import TaskCounter, default_num_threads


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3}, raising=False)


def core(cpus: Path, cpu: int, package: int, core_id: int) -> None:
    topology = cpus / f"cpu{cpu}" / "topology"
    topology.mkdir(parents=True)
    (topology / "physical_package_id").write_text(f"{package}\n")
    (topology / "core_id").write_text(f"{core_id}\n")


@pytest.mark.usefixtures("allowed")
def test_two_hardware_threads_of_a_core_count_once(tmp_path: Path) -> None:
    for cpu in range(4):
        core(tmp_path, cpu, package=0, core_id=cpu // 2)
    assert default_num_threads(cgroup=tmp_path, cpus=tmp_path) == 2


@pytest.mark.usefixtures("allowed")
def test_without_a_topology_every_processor_counts(tmp_path: Path) -> None:
    assert default_num_threads(cgroup=tmp_path, cpus=tmp_path) == 4


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("text", "threads"),
    [("300000 100000\n", 3), ("50000 100000\n", 1), ("max 100000\n", 4), ("800000 100000\n", 4)],
    ids=["three", "half a processor", "no limit", "more than there are"],
)
def test_a_containers_quota_bounds_the_threads(tmp_path: Path, text: str, threads: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert default_num_threads(cgroup=tmp_path, cpus=tmp_path) == threads


@pytest.mark.usefixtures("allowed")
def test_the_older_cgroup_files_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert default_num_threads(cgroup=tmp_path, cpus=tmp_path) == 2


@pytest.mark.usefixtures("allowed")
def test_the_tasks_beside_the_reader_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    loadavg = tmp_path / "loadavg"
    loadavg.write_text("0.20 0.18 0.12 3/80 11206\n")
    tasks = TaskCounter(loadavg)
    assert tasks.num_others() == 2
    loadavg.write_text("0.20 0.18 0.12 1/80 11206\n")
    assert tasks.num_others() == 0
    tasks.close()
    assert tasks.num_others() is None


@pytest.mark.usefixtures("allowed")
def test_on_a_part_of_the_machine_a_part_of_its_tasks_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    (tmp_path / "loadavg").write_text("9.0 9.0 9.0 9/800 11206\n")
    tasks = TaskCounter(tmp_path / "loadavg")
    assert tasks.num_others() == 2
    tasks.close()


@pytest.mark.parametrize(
    "text", [None, "", "nonsense", "0.0 0.0 0.0 0/0 0"], ids=["missing", "empty", "nonsense", "zero"]
)
def test_a_system_that_does_not_tell_is_no_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "loadavg").write_text(text)
    tasks = TaskCounter(tmp_path / "loadavg")
    assert tasks.num_others() is None
    tasks.close()
