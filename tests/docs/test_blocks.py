"""Every code block of README and docs is run, one page a test. What cannot be run here says why, and is counted."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT, Block, blocks_of, commands_of, is_complete, looks_like_code, pages
from tests.docs.worlds import World, check_shape, check_shown

WITH_THE_MODEL = {"README.md"}
"""Pages whose requests and samples are run with the default model, as a newcomer runs them; the others on a table."""
IN_A_COPY = {"docs/contributing.md"}
"""Pages that change the code."""
MOST_NOT_RUN = 16
"""Blocks that want a Docker engine, a cluster or minutes of training."""
ROW = {"model": "SmolLM2-135M-Instruct", "prompt": "1 + 1 =", "max_tokens": 8, "power": {"blocks": 2}}
REQUESTS = [{"custom_id": f"q{i}", "method": "POST", "url": "/v1/completions", "body": ROW} for i in range(2)]


def copy_of_the_code(folder: Path) -> None:
    """The files that git has, where a page may change them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())


def cases() -> list[Any]:
    """Every page, with the time that its commands take on a busy machine."""
    patient = pytest.mark.timeout(1200)
    marks = dict.fromkeys(WITH_THE_MODEL, (patient, pytest.mark.model))
    return [pytest.param(page, marks=marks.get(page, patient)) for page in pages()]


@pytest.mark.slow
@pytest.mark.parametrize("page", cases())
def test_every_block_of_a_page_runs(
    page: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    table: Path,
    table_server: str,
    benchmark_files: Path | None,
) -> None:
    blocks = [block for block in blocks_of(page) if block.reason is None]
    if not blocks:
        return
    if page in IN_A_COPY:
        copy_of_the_code(tmp_path)
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in REQUESTS))
    world = World(
        tmp_path,
        request.getfixturevalue("model_server") if page in WITH_THE_MODEL else table_server,
        code=tmp_path if page in IN_A_COPY else ROOT,
        table=table,
        table_url=table_server,
        data=benchmark_files,
        real=page in WITH_THE_MODEL,
    )
    for block in blocks:
        world.run(block)
    for call in world.calls():
        if call["state"] != "run":
            print(f"{page}: {call['state']} only ({call['why']}): {call['command']}")


def test_what_is_not_run_says_why_and_is_rare() -> None:
    left_out = [block for page in pages() for block in blocks_of(page) if block.reason is not None]
    for block in left_out:
        print(f"{block}: {block.reason}")
        assert block.reason is not None
        assert len(block.reason) > 10, f"{block}: a reason says why"
    assert len(left_out) <= MOST_NOT_RUN, "\n".join(map(str, left_out))


def block(language: str, text: str, title: str = "") -> Block:
    return Block("page", 1, language, title, text)


def test_commands_are_told_from_what_they_print() -> None:
    text = "$ echo a \\\n    b\na b\n$ for x in 1 2; do\n    echo $x\n  done\n1\n2\n$ echo 'x\ny'\nx\n"
    found = commands_of(block("console", text))
    assert [shown for _, shown in found] == [["a b"], ["1", "2"], ["x"]]
    assert found[1][0].count("\n") == 2
    assert not is_complete("echo 'open")


@pytest.mark.slow
def test_a_page_cannot_hide_a_command_in_a_text_or_show_what_is_not_printed(tmp_path: Path) -> None:
    world = World(tmp_path, "http://127.0.0.1:1")
    assert looks_like_code("curl -s http://x")
    for wrong in (block("text", "$ ls"), block("", "ls"), block("json", "{}"), block("json", "{", "a.json")):
        with pytest.raises(AssertionError):
            world.run(wrong)
    with pytest.raises(AssertionError, match="not what was printed"):
        world.run(block("console", "$ echo hello\ngoodbye\n"))
    with pytest.raises(AssertionError):
        world.run(block("console", "$ powercut serve --no-such-option 3 --engine vllm\n"))
    with pytest.raises(AssertionError):
        world.run(block("console", "$ powercut-eval run humaneval --no-such-option\n"))
    with pytest.raises(AssertionError):
        world.run(block("console", "$ make no-such-target\n"))
    with pytest.raises(AssertionError, match="write <!-- not run: why -->"):
        world.run(block("console", "$ docker run powercut\n"))
    world.run(block("console", "$ echo hello there\nhello …\n"))


def test_replies_are_compared_by_their_shape() -> None:
    check_shape({"a": [1], "b": {"c": "x"}}, {"a": [2.5, 3], "b": {"c": "y", "d": 0}}, "page")
    for shown, real in (({"a": 1}, {}), ({"a": 1}, {"a": "x"}), ({"a": [{"b": 1}]}, {"a": [{"c": 1}]})):
        with pytest.raises(AssertionError):
            check_shape(shown, real, "page")
    with pytest.raises(AssertionError):
        check_shown(block("console", ""), ["b", "a"], "a\nb\n")
