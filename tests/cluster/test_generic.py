"""profiles/generic with a stand-in for a scheduler's commands: qsub runs the script at once."""

import os
import signal
from copy import deepcopy
from pathlib import Path

import psutil
import pytest
from project import CONFIG, ONE_THREAD, ROOT, Project

pytestmark = pytest.mark.cluster

QSUB = """#!/bin/sh
echo "$@" >> {folder}/submitted
for script in "$@"; do :; done
setsid sh "$script" > {folder}/job.$$ 2>&1 &
echo $!.machine
"""
TINY = deepcopy(CONFIG)
del TINY["detectors"]["featcae"], TINY["synthetic"]
TINY["categories"] = ["bolt"]
TINY["evaluation"] = {"train_suspects": False}


def test_the_line_runs_through_any_submit_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qsub = tmp_path / "qsub"
    qsub.write_text(QSUB.format(folder=tmp_path))
    qsub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    project = Project(tmp_path / "project", ROOT)
    project.configure(TINY)
    profile = ["--workflow-profile", "profiles/generic", "--latency-wait", "5"]
    try:
        done = project.snakemake(*profile, "--resources", "gpu=2", *ONE_THREAD)
    finally:
        end_jobs_in(project.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.folder / "results/demo/report.html").is_file()
    jobs = (tmp_path / "submitted").read_text().splitlines()
    with_gpu = [job for job in jobs if "-q gpu " in job]
    assert len(with_gpu) == 3 + 1 + 2  # extract_features, train, score
    assert all(":ngpus=1 " in job for job in with_gpu)
    others = [job for job in jobs if "-q cpu " in job]
    assert len(others) == 3  # groups: data, evaluation, report
    assert all(":ngpus=0 " in job for job in others)
    train = next(job for job in with_gpu if "snakejob.train" in job)
    assert "-l walltime=4:0:00 " in train


def end_jobs_in(folder: Path) -> None:
    """End what the stand-in started and left, if anything."""
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or []):
            process.send_signal(signal.SIGKILL)
