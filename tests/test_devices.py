"""Several jobs and several GPUs on one machine. No GPU is needed here."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flawline.devices import list_gpus
from flawline.errors import FlawlineError

TAKE = """
import os, sys, time
from pathlib import Path
from flawline.devices import take_gpu
folder = Path(sys.argv[1])
gpu = take_gpu(sys.argv[2:], folder / "locks")
"""
# Whoever holds a GPU makes a file that must not be there yet.
WORK = """
mark = folder / f"held-{gpu}"
os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
time.sleep(0.2)
mark.unlink()
print(gpu)
"""
HOLD = """
print(gpu, flush=True)
time.sleep(600)
"""
LISTED = """#!/bin/sh
echo "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa-1111)"
echo "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb-2222)"
"""
DIVIDED = """#!/bin/sh
echo "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa-1111)"
echo "  MIG 3g.20gb     Device  0: (UUID: MIG-cccc-3333)"
echo "  MIG 3g.20gb     Device  1: (UUID: MIG-GPU-dddd/2/0)"
"""


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def with_nvidia_smi(folder: Path, script: str) -> str:
    """A search path on which nvidia-smi is this script."""
    program = folder / "nvidia-smi"
    program.write_text(script)
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


class TestJobsThatWantAGpu:
    def test_never_share_one_and_all_get_done(self, tmp_path: Path) -> None:
        jobs = [start(TAKE + WORK, str(tmp_path), "first", "second") for _ in range(10)]
        outputs = [job.communicate() for job in jobs]
        assert [
            error for job, (_, error) in zip(jobs, outputs, strict=True) if job.returncode
        ] == []
        assert {taken.strip() for taken, _ in outputs} == {"first", "second"}

    def test_get_the_gpu_of_a_killed_one(self, tmp_path: Path) -> None:
        first = start(TAKE + HOLD, str(tmp_path), "only")
        assert first.stdout is not None
        assert first.stdout.readline() == "only\n"
        second = start(TAKE + HOLD, str(tmp_path), "only")
        assert second.stdout is not None
        assert second.stderr is not None
        try:
            assert "waiting" in second.stderr.readline()
            first.send_signal(signal.SIGKILL)
            assert second.stdout.readline() == "only\n"
        finally:
            for job in (first, second):
                job.kill()
                job.communicate()

    def test_say_so_when_another_user_owns_the_locks(self, tmp_path: Path, monkeypatch) -> None:
        from flawline import devices

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied", "locks/only")

        monkeypatch.setattr(devices.os, "open", refuse)
        with pytest.raises(FlawlineError, match="locks/only: belongs to another user"):
            devices.take_gpu(["only"], tmp_path)


class TestChoosingADevice:
    CODE = """
import os, sys
from flawline.devices import choose_device
choose_device(int(sys.argv[1]), 1)
print(os.environ.get("CUDA_VISIBLE_DEVICES"))
"""

    @pytest.mark.parametrize(
        ("granted", "given", "taken"),
        [
            ("1", {}, "GPU-aaaa-1111"),
            ("0", {}, "None"),
            ("1", {"CUDA_VISIBLE_DEVICES": "3"}, "3"),
            ("1", {"CUDA_VISIBLE_DEVICES": ""}, ""),
        ],
    )
    def test_takes_a_free_gpu_unless_a_scheduler_has_chosen_one(
        self, tmp_path: Path, monkeypatch, granted: str, given: dict[str, str], taken: str
    ) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        path = with_nvidia_smi(tmp_path, LISTED)
        job = start(self.CODE, granted, PATH=path, TMPDIR=str(tmp_path), **given)
        output, error = job.communicate()
        assert job.returncode == 0, error
        assert output == f"{taken}\n"

    def test_knows_divided_gpus(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("PATH", with_nvidia_smi(tmp_path, DIVIDED))
        assert list_gpus() == ["MIG-cccc-3333", "MIG-GPU-dddd/2/0"]
        monkeypatch.setenv("PATH", with_nvidia_smi(tmp_path, LISTED))
        assert list_gpus() == ["GPU-aaaa-1111", "GPU-bbbb-2222"]
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        assert list_gpus() == []


FAULTS = """
import resource
import sys
from flawline.devices import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
bytearray(100 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(b"1") * (50 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again() -> None:
    fresh, kept = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, mode]))
        for mode in ("return", "keep")
    )
    assert kept < fresh / 5  # pages that the operating system had to hand out
