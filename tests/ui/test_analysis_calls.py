"""The calls that the page of the analyses gives to copy: they are run here, by bash and by Python."""

import ast
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from service.analysis import ANALYSES
from service.keys import new_key
from service.settings import Settings
from tests.service.faulty import FaultyEngine
from tests.service.serving import ROOT, serving
from tests.service.tables import letters_table
from tests.ui.analysis_page import copied, open_at, write
from tests.ui.browsing import Visit
from tests.ui.proxying import at_a_path

KEY, KEY_LINE = new_key("reader")
HOSTILE = 'it\'s "$HOME" `id` $(id) \\ \\n !! </script> é🙂\u2028 %s {0}'
CLIPBOARD = ["clipboard-read", "clipboard-write"]
PATIENCE_S = 240
"""Far longer than anything takes."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def keyed_url() -> Iterator[str]:
    with serving(FaultyEngine(letters_table()), Settings(keys=KEY_LINE)) as url:  # type: ignore[arg-type]
        yield url


def opened(visit: Visit, url: str, name: str) -> Page:
    """The page with the key given."""
    page = visit(f"{url}/ui/analysis#{name}", refused=(401,), permissions=CLIPBOARD)
    page.get_by_role("dialog").get_by_label("Key").fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#fields dl").first).to_be_attached()
    return page


def output(command: list[str], folder: Path, typed: str = "") -> str:
    """What a command prints that has the key in its environment, this environment's programs, and `typed` to read."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = os.environ | {"POWERCUT_API_KEY": KEY, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=variables, input=typed, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def reply_of(page: Page) -> dict[str, Any]:
    """The reply of the page's own run of what is in the editor."""
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("figure").get_by_role("img")).to_be_visible()
    return json.loads(page.locator("#reply pre.json").text_content() or "")


# The calls.


@pytest.mark.parametrize("name", ["pac-bayes-bounds", "panel-treatment-effects"])
def test_the_copied_calls_give_the_reply_and_the_picture(
    visit: Visit, keyed_url: str, name: str, tmp_path: Path
) -> None:
    page = opened(visit, keyed_url, name)
    request: dict[str, Any] = {**ANALYSES[name].example, "seed": 4}
    if name == "panel-treatment-effects":
        request["unit_ids"] = [f"{HOSTILE} {at}" for at in range(len(request["outcomes"]))]
    write(page, json.dumps(request, ensure_ascii=False))
    reply = reply_of(page)
    curl, drawing, python = (copied(page, form) for form in ("curl", "curl, picture", "Python"))
    assert not [text for text in (curl, drawing, python) if KEY in text]

    assert json.loads(output(["bash", "-c", curl], tmp_path)) == reply
    output(["bash", "-c", drawing], tmp_path)
    picture = tmp_path / f"{name}.png"
    assert picture.read_bytes().startswith(PNG_MAGIC)
    picture.unlink()
    assert ast.literal_eval(output([sys.executable, "-c", python], tmp_path)) == reply
    assert picture.read_bytes().startswith(PNG_MAGIC)


def test_an_interactive_bash_expands_nothing_either(visit: Visit, keyed_url: str, tmp_path: Path) -> None:
    page = opened(visit, keyed_url, "benchmark-bounds")
    request = ANALYSES["benchmark-bounds"].example
    request = {
        **request,
        "results": [{**one, "problem_id": f"{HOSTILE} {at}"} for at, one in enumerate(request["results"])],
    }
    write(page, json.dumps(request, ensure_ascii=False))
    curl = copied(page, "curl")
    assert "!" not in curl, "which a bash with history expands"
    told = output(["bash", "--norc", "-i"], tmp_path, curl)
    assert json.loads(told)["num_problems"] == len(request["results"])


def test_without_a_seed_the_copied_python_draws_the_same_run(visit: Visit, keyed_url: str, tmp_path: Path) -> None:
    page = opened(visit, keyed_url, "pac-bayes-bounds")
    python = copied(page, "Python")
    assert 'request["seed"] = reply.json()["seed"]' in python
    told = output([sys.executable, "-c", python], tmp_path)
    assert f"seed {ast.literal_eval(told)['seed']}".encode() in (tmp_path / "pac-bayes-bounds.png").read_bytes()


def test_behind_a_proxy_the_call_goes_to_the_proxy(visit: Visit, keyed_url: str, tmp_path: Path) -> None:
    with at_a_path(keyed_url) as proxied:
        page = opened(visit, proxied, "pac-bayes-bounds")
        reply = reply_of(page)
        curl = copied(page, "curl")
        assert f"{proxied}/v1/analysis/pac-bayes-bounds" in curl
        again = json.loads(output(["bash", "-c", curl], tmp_path))
    assert again["bounds"] == reply["bounds"]


def test_the_key_is_asked_for_once(visit: Visit, keyed_url: str) -> None:
    page = opened(visit, keyed_url, "pac-bayes-bounds")
    reply_of(page)
    page.reload()
    expect(page.locator("#fields dl").first).to_be_attached()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["Shell", pytest.param("Python", marks=pytest.mark.long)])
def test_a_job_is_submitted_as_the_page_says(visit: Visit, keyed_url: str, form: str, tmp_path: Path) -> None:
    page = opened(visit, keyed_url, "constrained-sparsity")
    expect(page.get_by_text("runs as a row of a batch")).to_be_visible()
    expect(page.get_by_role("button", name="Run")).to_have_count(0)
    small = {**ANALYSES["constrained-sparsity"].example, "optimizer": {"num_steps": 20, "batch_size": 16}}
    write(page, json.dumps(small))
    text = copied(page, form)
    assert KEY not in text
    told = output(["bash", "-c", text] if form == "Shell" else [sys.executable, "-c", text], tmp_path)
    line = json.loads((tmp_path / "answers.jsonl").read_text() if form == "Shell" else told)
    assert line["response"]["status_code"] == 200
    ANALYSES["constrained-sparsity"].response.model_validate(line["response"]["body"])


def test_without_keys_the_call_has_none(visit: Visit, tmp_path: Path) -> None:
    with serving(FaultyEngine(letters_table())) as url:
        page = open_at(visit, url, "positive-query-learning/certificate", permissions=CLIPBOARD)
        curl, python = copied(page, "curl"), copied(page, "Python")
        assert "POWERCUT_API_KEY" not in curl + python
        assert json.loads(output(["bash", "-c", curl], tmp_path))["certified"]
        assert ast.literal_eval(output([sys.executable, "-c", python], tmp_path))["certified"]


# JSON as text.


def made_up(rng: random.Random, depth: int = 3) -> Any:
    """A random value of JSON, an object outermost."""
    if depth == 3 or (depth > 0 and rng.random() < 0.4):
        return {f"{HOSTILE[at : at + 3]}.{at}": made_up(rng, depth - 1) for at in range(rng.randrange(4))}
    if depth > 0 and rng.random() < 0.5:
        return [made_up(rng, depth - 1) for _ in range(rng.randrange(5))]
    return rng.choice([None, True, False, 0, -7, 2**70 + 1, 0.1, -1.5e-9, 1e22, "", HOSTILE, "a" * 60, rng.random()])


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all fields of objects in a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if isinstance(value, dict):
            yield (*path, str(name))
        yield from places(item, (*path, str(name)))


SCRIPT = """async (cases) => {
    const json = await import(new URL("static/analysis/json.js", document.baseURI));
    return cases.map(({ text, paths }) => ({
        pretty: json.pretty(json.parse(text)),
        python: json.pretty(json.parse(text), json.pythonWord),
        minified: json.minified(text),
        longer: json.withField(text, "seed", 5),
        names: paths.map((path) => json.placeOf(text, path)).map(({ start, end }) => text.slice(start, end)),
    }));
}"""


def test_json_is_printed_changed_and_searched_without_harm(visit: Visit) -> None:
    rng = random.Random(3)
    values = [made_up(rng) for _ in range(60)]
    texts = [json.dumps(value, indent=rng.choice([None, 2]), ensure_ascii=rng.random() < 0.5) for value in values]
    found = [list(places(value)) for value in values]
    cases = [
        {"text": text, "paths": [".".join(path) for path in paths]} for text, paths in zip(texts, found, strict=True)
    ]
    with serving(FaultyEngine(letters_table())) as url:
        results = visit(f"{url}/ui/analysis").evaluate(SCRIPT, cases)
    assert sum(map(len, found)) > 100
    for value, paths, result in zip(values, found, results, strict=True):
        assert json.loads(result["pretty"]) == value
        assert ast.literal_eval(result["python"]) == value
        assert json.loads(result["minified"]) == value
        assert "\n" not in result["minified"]
        assert json.loads(result["longer"]) == {**value, "seed": 5}
        assert [json.loads(name) for name in result["names"]] == [path[-1] for path in paths]
