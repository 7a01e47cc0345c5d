"""`powercut analyse`: the HTTP request from the shell."""

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from service.analysis import ANALYSES
from service.cli import app

NAME = "pac-bayes-bounds"


def analyse(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["analyse", *arguments], input=given)


def one_line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_without_a_name_it_lists_them() -> None:
    result = analyse()
    assert result.exit_code == 0
    assert NAME[:8] in result.stdout


def test_the_example_runs_and_is_the_reply_of_the_service(http: httpx.Client, tmp_path: Path) -> None:
    example = analyse(NAME, "--example")
    assert json.loads(example.stdout) == ANALYSES[NAME].example
    request = json.loads(example.stdout) | {"seed": 4}
    file, picture = tmp_path / "request.json", tmp_path / "out.png"
    file.write_text(json.dumps(request))
    result = analyse(NAME, str(file), "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == http.post(f"/v1/analysis/{NAME}", json=request).json()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_standard_input_is_a_file_too() -> None:
    result = analyse(NAME, "-", given=json.dumps(ANALYSES[NAME].example))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["n"] == 30


@pytest.mark.parametrize(
    ("arguments", "given", "words"),
    [
        (["no-such"], None, "no-such"),
        ([NAME], None, "--example"),
        ([NAME, "/no/such/file"], None, "/no/such/file"),
        ([NAME, "-"], "{", "JSON"),
        ([NAME, "-"], '{"n": 0}', "n:"),
        ([NAME, "-"], '{"n": 5, "colour": 1}', "colour"),
        ([NAME, "-"], '{"n": 5, "empirical_risk": NaN}', "empirical_risk"),
        ([NAME, "-"], '{"n": 5}', "empirical_risk"),
        ([NAME, "-", "--plot", "/no/such/folder/x.png"], json.dumps(ANALYSES[NAME].example), "x.png"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], given: str | None, words: str) -> None:
    assert words in one_line(analyse(*arguments, given=given))
