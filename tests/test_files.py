import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawline.errors import FlawlineError
from flawline.files import (
    given_path,
    is_file,
    is_folder,
    new_array,
    read_array,
    read_json,
    read_table,
    replacing,
    write_array,
    write_json,
    write_table,
)
from flawline.logs import each_cause_once, last_error, logged
from flawline.seeding import derive, generator


class TestWriting:
    def test_makes_the_folder_and_leaves_only_the_file(self, tmp_path: Path) -> None:
        with replacing(tmp_path / "a" / "b" / "x.txt") as partial:
            partial.write_text("whole")
            assert not (tmp_path / "a/b/x.txt").exists()
        assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["x.txt"]
        assert (tmp_path / "a/b/x.txt").read_text() == "whole"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_an_error_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        path = tmp_path / "x.txt"
        path.write_text("old")

        def fail() -> None:
            with replacing(path) as partial:
                partial.write_text("half of the ne")
                raise error

        with pytest.raises(error):
            fail()
        assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]
        assert path.read_text() == "old"

    def test_an_error_in_an_array_leaves_the_old_one_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "x.npy"
        write_array(path, np.arange(3))

        def fail() -> None:
            with new_array(path, (5, 5), np.uint8) as array:
                array[0] = 1
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]
        assert np.array_equal(read_array(path), [0, 1, 2])

    @pytest.mark.parametrize(
        ("write", "content"),
        [
            (write_json, {"x": object()}),
            (write_table, pd.DataFrame({"x": ["\udc80"]})),
            (write_array, np.array([object()])),
        ],
        ids=["json", "table", "array"],
    )
    def test_content_that_cannot_be_written_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, write: Callable[[Path, Any], None], content: Any
    ) -> None:
        path = tmp_path / "x"
        path.write_text("old")
        with pytest.raises((TypeError, ValueError)):
            write(path, content)
        assert [file.name for file in tmp_path.iterdir()] == ["x"]
        assert path.read_text() == "old"


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.int64, bool])
    def test_come_back_as_read_only_maps(self, tmp_path: Path, dtype: type) -> None:
        array = np.arange(24).reshape(2, 3, 4).astype(dtype)
        write_array(tmp_path / "x.npy", array.transpose(2, 0, 1))
        found = read_array(tmp_path / "x.npy")
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
        assert found.flags.c_contiguous
        assert found.dtype == dtype
        assert np.array_equal(found, array.transpose(2, 0, 1))

    def test_written_row_by_row_are_the_same_file(self, tmp_path: Path) -> None:
        array = np.arange(24, dtype=np.float16).reshape(4, 6)
        with new_array(tmp_path / "rows.npy", array.shape, array.dtype) as rows:
            for i, row in enumerate(array):
                rows[i] = row
        write_array(tmp_path / "whole.npy", array)
        assert (tmp_path / "rows.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()

    @pytest.mark.parametrize("shape", [(0, 4), (3, 5)])
    def test_are_what_numpy_reads_without_knowing_of_checksums(
        self, tmp_path: Path, shape: tuple[int, ...]
    ) -> None:
        array = np.full(shape, 7, np.uint8)
        write_array(tmp_path / "x.npy", array)
        for found in (np.load(tmp_path / "x.npy"), read_array(tmp_path / "x.npy")):
            assert np.array_equal(found, array)

    @given(data=st.data())
    def test_any_flipped_bit_is_noticed(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        path = tmp_path_factory.mktemp("flipped") / "x.npy"
        write_array(path, np.arange(50, dtype=np.float32))
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        with pytest.raises(FlawlineError, match=f"rm '{path}'"):
            read_array(path)

    @pytest.mark.parametrize("left", [0, 1, 14, 100, -16, -15, -1])
    def test_a_file_that_was_cut_off_is_named_with_what_to_do(
        self, tmp_path: Path, left: int
    ) -> None:
        path = tmp_path / "x.npy"
        write_array(path, np.arange(50))
        path.write_bytes(path.read_bytes()[:left])
        with pytest.raises(FlawlineError, match=f"{path}: the file is cut off.*rm '{path}'"):
            read_array(path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
    @pytest.mark.parametrize("way", ["array", "rows", "json", "model"])
    def test_a_full_disk_is_an_error_that_names_the_file(self, tmp_path: Path, way: str) -> None:
        import torch
        from safetensors.torch import save_file

        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no mounts here")

        def write() -> None:
            match way:
                case "array":
                    write_array(disk / "x", np.zeros(4_000_000, np.uint8))
                case "rows":
                    with new_array(disk / "x", (4_000_000,), np.uint8) as array:
                        array[:] = 1
                case "json":
                    write_json(disk / "x", "x" * 4_000_000)
                case "model":
                    with replacing(disk / "x") as partial:
                        save_file({"x": torch.zeros(1_000_000)}, partial)

        try:
            with pytest.raises(FlawlineError, match=f"{disk / 'x'}: there is no space left"):
                write()
            assert not list(disk.iterdir())
        finally:
            subprocess.run(["umount", str(disk)], check=True)


class TestTables:
    @pytest.mark.parametrize("left", ["", "name,x\na,1\nb"])
    def test_that_were_cut_off_are_an_error(self, tmp_path: Path, left: str) -> None:
        path = tmp_path / "x.csv"
        path.write_text(left)
        with pytest.raises(FlawlineError, match=f"{path}: the file is cut off"):
            read_table(path)

    def test_text_comes_back_as_it_was(self, tmp_path: Path) -> None:
        text = ["", "NA", "nan", "None", 'a "b", c', "two\nlines", "odd\rname", "Größe 部品", " x "]
        table = pd.DataFrame({"first": text, "number": range(len(text))})
        write_table(tmp_path / "x.csv", table)
        found = read_table(tmp_path / "x.csv")
        assert list(found["first"]) == text
        assert list(found["number"]) == list(range(len(text)))

    def test_names_that_look_like_numbers_or_truth_stay_as_they_are(self, tmp_path: Path) -> None:
        names = ["01", "1", "1e3", "1000", "true", "NA", "nan", "-0", "0x1"]
        table = pd.DataFrame({"defect_type": names, "category": names, "score": range(9)})
        write_table(tmp_path / "x.csv", table)
        found = read_table(tmp_path / "x.csv")
        assert list(found["defect_type"]) == list(found["category"]) == names
        assert found["score"].sum() == 36

    def test_a_column_of_empty_text_stays_text(self, tmp_path: Path) -> None:
        write_table(tmp_path / "x.csv", pd.DataFrame({"id": [1, 2], "mask_path": ["", ""]}))
        assert list(read_table(tmp_path / "x.csv")["mask_path"]) == ["", ""]

    def test_floats_have_nine_digits_so_that_float32_is_exact(self, tmp_path: Path) -> None:
        scores = np.random.default_rng(0).normal(size=200).astype(np.float32)
        write_table(tmp_path / "x.csv", pd.DataFrame({"score": scores}))
        assert np.array_equal(read_table(tmp_path / "x.csv")["score"].astype(np.float32), scores)
        write_table(tmp_path / "y.csv", pd.DataFrame({"x": [1 / 3, 2e10, 1.0]}))
        assert (tmp_path / "y.csv").read_bytes() == b"x\n0.333333333\n2e+10\n1\n"

    def test_an_empty_table_keeps_its_columns(self, tmp_path: Path) -> None:
        write_table(tmp_path / "x.csv", pd.DataFrame([], columns=["a", "b"]))
        assert list(read_table(tmp_path / "x.csv").columns) == ["a", "b"]


class TestJson:
    def test_equal_content_gives_equal_bytes(self, tmp_path: Path) -> None:
        write_json(tmp_path / "a.json", {"b": 1, "a": {"d": [1.5, None], "c": "ü"}})
        write_json(tmp_path / "b.json", {"a": {"c": "ü", "d": [1.5, None]}, "b": 1})
        assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
        assert (tmp_path / "a.json").read_text(encoding="utf-8").index('"a"') < 10
        assert "ü" in (tmp_path / "a.json").read_text(encoding="utf-8")
        assert read_json(tmp_path / "a.json") == {"a": {"c": "ü", "d": [1.5, None]}, "b": 1}

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_json_has_no_word_for_is_refused(self, tmp_path: Path, value: float) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "a.json", {"x": value})
        assert list(tmp_path.iterdir()) == []


class TestLogs:
    def test_a_mistake_of_the_user_ends_the_job_with_its_message_alone(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "logs" / "job.log"
        with pytest.raises(SystemExit) as ended, logged(path):
            raise FlawlineError("bottle/000.png: zero bytes; give a whole image")
        assert ended.value.code == 1
        kept = path.read_text(encoding="utf-8")
        assert kept.count("bottle/000.png: zero bytes; give a whole image") == 1
        assert "Traceback" not in kept
        assert capsys.readouterr().err == ""  # Snakemake shows the log

    @pytest.mark.parametrize(
        ("error", "ended"), [(ZeroDivisionError, SystemExit), (KeyboardInterrupt,) * 2]
    )
    def test_any_other_error_ends_the_job_and_its_traceback_is_kept(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        error: type[BaseException],
        ended: type[BaseException],
    ) -> None:
        with pytest.raises(ended), logged(tmp_path / "job.log"):
            raise error("surprise")
        kept = (tmp_path / "job.log").read_text(encoding="utf-8")
        assert "Traceback" in kept
        assert f"{error.__name__}: surprise" in kept
        assert "Traceback" not in capsys.readouterr().err

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError("Unable to allocate 3.1 TiB for an array"),
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 5 bytes"),
            cv2.error("OpenCV: alloc.cpp:73: error: (-4) Failed to allocate 5 bytes"),
        ],
    )
    def test_a_lack_of_memory_is_one_line(self, tmp_path: Path, error: Exception) -> None:
        with pytest.raises(SystemExit), logged(tmp_path / "job.log"):
            raise error
        kept = (tmp_path / "job.log").read_text(encoding="utf-8").splitlines()
        assert len(kept) == 1
        assert last_error(tmp_path / "job.log") == f"out of memory: {error}"

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (FlawlineError("a.png: empty\nFix it."), "a.png: empty"),
            (ZeroDivisionError("surprise"), "ZeroDivisionError: surprise"),
        ],
    )
    def test_the_last_error_is_told_in_a_line(
        self, tmp_path: Path, error: Exception, said: str
    ) -> None:
        with pytest.raises(SystemExit), logged(tmp_path / "job.log"):
            raise error
        assert last_error(tmp_path / "job.log") == said
        assert last_error(tmp_path / "none.log") == ""

    def test_a_cause_that_several_jobs_share_is_told_once(self) -> None:
        failed = [("a.log", "full"), ("b.log", "killed"), ("c.log", "full")]
        assert each_cause_once(failed) == ["a.log, c.log: full", "b.log: killed"]

    def test_information_goes_to_the_log_and_warnings_to_the_terminal_too(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with logged(tmp_path / "job.log") as log:
            log.info("read %d images", 5)
            log.warning("Größe fehlt")
            warnings.warn("from a library", stacklevel=1)
        kept, shown = (tmp_path / "job.log").read_text("utf-8"), capsys.readouterr().err
        assert "INFO read 5 images" in kept
        assert "read 5 images" not in shown
        for text in (kept, shown):
            assert "Größe fehlt" in text
            assert "from a library" in text

    def test_the_log_of_an_earlier_try_is_replaced(self, tmp_path: Path) -> None:
        for word in ("first", "second"):
            with logged(tmp_path / "job.log") as log:
                log.info(word)
        assert "first" not in (tmp_path / "job.log").read_text()

    def test_logging_is_left_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = logging.getLogger()
        monkeypatch.setattr(root, "level", logging.ERROR)
        before = (root.level, list(root.handlers), warnings.showwarning)
        with logged(tmp_path / "job.log"):
            assert len(root.handlers) == len(before[1]) + 2
        assert (root.level, root.handlers, warnings.showwarning) == before


class TestSeeds:
    def test_stay_what_they_were(self) -> None:
        assert derive(0) == 3456079177858693020
        assert derive(0, "bottle", "split") == 1157898760706804226
        assert generator(3, "screw", "coreset").integers(1000) == 931

    def test_differ_by_seed_and_by_every_name(self) -> None:
        seeds = {
            derive(0, "bottle", "split"),
            derive(1, "bottle", "split"),
            derive(0, "screw", "split"),
            derive(0, "bottle", "train"),
            derive(0, "split", "bottle"),
            derive(0, "bottle"),
            derive(0, "bottles", "plit"),
        }
        assert len(seeds) == 7

    def test_fit_what_torch_and_numpy_accept(self) -> None:
        seeds = [derive(seed, "x") for seed in range(200)]
        assert all(0 <= seed < 2**63 for seed in seeds)

    def test_do_not_depend_on_the_process(self) -> None:
        # Python's own hash of text differs between processes
        command = "from flawline.seeding import derive; print(derive(7, 'bottle', 'train'))"
        environment = os.environ | {"PYTHONHASHSEED": "12345"}
        found = subprocess.check_output([sys.executable, "-c", command], env=environment)
        assert int(found) == derive(7, "bottle", "train")


@pytest.mark.parametrize("name", ["a" * 5000, "part/" * 2000, "\0", "~no_such_user/mask.png"])
def test_a_name_that_no_file_can_have_is_of_none(name: str) -> None:
    path = given_path(name)
    assert not is_file(path)
    assert not is_folder(path)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mask.png").touch()
    assert is_file(given_path("~/mask.png"))
    assert is_folder(given_path("~"))
