"""Records survive a kill at any byte, belong to one run and one process, and say what differs."""

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.errors import FolderInUse, OptionError, RecordsDamaged, RunError, SettingsDiffer
from evals.records import RECORDS, SETTINGS, Folder, Key, key_of, read_records, read_settings
from evals.settings import Arm, Settings, answer_seed, differences

SETTINGS_HERE = Settings(
    benchmark="letters",
    data_sha256="abc",
    data_source="here",
    data_revision="1",
    arms=(Arm("one", {"alpha": 4}, model="m"),),
    reference=None,
    problems=2,
    repeats=1,
    seed=0,
    max_tokens=8,
    prompt_style="paper",
    template_sha256=None,
    logprobs=True,
    max_stops=None,
)


def record(problem: str, status: str = "answered", text: str = "ünï\ud800\r\n") -> dict[str, Any]:
    tokens = {"prompt": 1, "completion": 2, "generated": 3}
    return {
        "arm": "one",
        "problem": problem,
        "repeat": 0,
        "status": status,
        "text": text,
        "tokens": tokens,
        "verdict": {"status": "correct"},
    }


def written(folder: Path, *records: dict[str, Any]) -> None:
    with Folder(folder, SETTINGS_HERE) as opened:
        for each in records:
            opened.append(each)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written(tmp_path / "a" / "b", record("p"), record("q"))
    found = read_records(tmp_path / "a" / "b")
    assert found[Key("one", "p", 0)] == record("p")
    assert len((tmp_path / "a" / "b" / RECORDS).read_bytes().splitlines()) == 2
    assert read_settings(tmp_path / "a" / "b")["identity"]["benchmark"] == "letters"


def test_a_kill_at_any_byte_of_the_last_line_costs_that_line_alone(tmp_path: Path) -> None:
    written(tmp_path, record("p"), record("q"))
    path = tmp_path / RECORDS
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        assert list(read_records(tmp_path)) == [Key("one", "p", 0)]
        assert path.read_bytes() == whole[:cut], "reading changes nothing"
        written(tmp_path, record("q"))
        assert path.read_bytes() == whole


@pytest.mark.parametrize("tail", [b"\0" * 40 + b"\n", b'{"arm": "one"}\n', b"{}\n", b"\xff\n", b"\n"])
def test_a_last_line_that_a_power_cut_spoilt_is_dropped(tmp_path: Path, tail: bytes) -> None:
    written(tmp_path, record("p"))
    path = tmp_path / RECORDS
    good = path.read_bytes()
    path.write_bytes(good + tail)
    written(tmp_path)
    assert path.read_bytes() == good


def test_a_spoilt_line_in_the_middle_stops_the_run(tmp_path: Path) -> None:
    written(tmp_path, record("p"), record("q"))
    path = tmp_path / RECORDS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"rubbish\n" + lines[1])
    with pytest.raises(RecordsDamaged, match="line 2"):
        written(tmp_path)
    with pytest.raises(RecordsDamaged, match="line 2"):
        read_records(tmp_path)


def test_a_failure_is_asked_again_and_the_last_record_counts(tmp_path: Path) -> None:
    with Folder(tmp_path, SETTINGS_HERE) as folder:
        folder.append(record("p", "failed"))
        assert folder.answered(Key("one", "p", 0)) is None
        folder.append(record("p"))
        assert folder.answered(Key("one", "p", 0)) is not None
    with Folder(tmp_path, SETTINGS_HERE) as folder:
        assert folder.answered(Key("one", "p", 0)) is not None
    assert len((tmp_path / RECORDS).read_bytes().splitlines()) == 2, "what failed stays on record"


def test_other_settings_are_refused_by_name_and_where_the_server_is_does_not_matter(tmp_path: Path) -> None:
    written(tmp_path)
    moved = replace(SETTINGS_HERE, arms=(replace(SETTINGS_HERE.arms[0], url="http://elsewhere"),))
    with Folder(tmp_path, moved):
        pass
    other = replace(SETTINGS_HERE, seed=1, arms=(Arm("one", {"alpha": 5}, model="m"),))
    with pytest.raises(SettingsDiffer) as caught, Folder(tmp_path, other):
        pass
    assert "seed: 0 → 1" in str(caught.value)
    assert "arms.0.power.alpha: 4 → 5" in str(caught.value)
    with Folder(tmp_path, SETTINGS_HERE):
        pass


def test_many_differences_are_counted() -> None:
    found = differences({str(i): 0 for i in range(9)}, {str(i): 1 for i in range(9)})
    assert len(found) == 7
    assert found[-1] == "and 3 more"


def hold(folder: Path, ready: Any, release: Any) -> None:
    with Folder(folder, SETTINGS_HERE):
        ready.set()
        release.wait(30)


def test_one_process_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, release))
    other.start()
    assert ready.wait(30)
    with pytest.raises(FolderInUse, match="another powercut-eval"):
        written(tmp_path)
    other.kill()
    other.join()
    written(tmp_path, record("p"))


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_text("mine")
    with pytest.raises(RecordsDamaged, match="not a run's folder"):
        written(tmp_path)
    assert (tmp_path / RECORDS).read_text() == "mine"
    with pytest.raises(OptionError, match="holds no run"):
        read_settings(tmp_path)
    (tmp_path / SETTINGS).write_text("{")
    with pytest.raises(RecordsDamaged):
        read_settings(tmp_path)


def test_a_full_disk_stops_the_run_clearly_and_what_is_there_stays(tmp_path: Path, monkeypatch: Any) -> None:
    written(tmp_path, record("p"))
    good = (tmp_path / RECORDS).read_bytes()
    real = os.write

    def full(file: int, content: Any) -> int:
        if len(content) > 10:
            return real(file, bytes(content)[:10])
        raise OSError(28, "No space left on device")

    with Folder(tmp_path, SETTINGS_HERE) as folder:
        monkeypatch.setattr(os, "write", lambda file, content: full(file, bytes(content)[:20]))
        with pytest.raises(RunError, match="No space left"):
            folder.append(record("q"))
        monkeypatch.undo()
    written(tmp_path)
    assert (tmp_path / RECORDS).read_bytes() == good
    assert json.loads(good) == record("p")


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        written(tmp_path / "file" / "below")


def test_every_answer_has_its_own_seed_whatever_the_arm() -> None:
    seeds = {answer_seed(s, f"p{p}", r) for s in range(4) for p in range(50) for r in range(4)}
    assert len(seeds) == 800
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert answer_seed(1, "HumanEval/3", 0) == answer_seed(1, "HumanEval/3", 0)


def test_a_key_is_what_a_record_says() -> None:
    assert key_of(record("p")) == ("one", "p", 0)
