"""Reports: numbers against sums by hand, what is unknown kept apart, and a page that stands alone."""

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import binomtest

from evals.errors import OptionError
from evals.records import Folder
from evals.report.markdown import cell, table
from evals.report.page import from_markdown
from evals.report.published import read_published
from evals.report.summary import Level, summarise
from evals.report.tables import grouped, natural, prefixes
from evals.report.write import write_report
from evals.settings import Arm, Settings
from evals.statistics.resampling import pass_at_k
from tests.evals.test_records import SETTINGS_HERE

NASTY = '<script>alert("x")</script> | `code` **bold** $x_1$ \ud800 &amp; "quoted"'
POWER = {"method": "entropy_cut", "alpha": 4.0}
ARMS = (Arm("entropy_cut", POWER, model="m"), Arm("standard", None, model="m"))


def settings(problems: int = 4, repeats: int = 2, arms: tuple[Arm, ...] = ARMS) -> Settings:
    return replace(SETTINGS_HERE, arms=arms, reference=arms[0].name, problems=problems, repeats=repeats)


def answer(arm: str, problem: int, repeat: int, right: bool, **more: Any) -> dict[str, Any]:
    """A record as runs write it."""
    power = {"steps": 10, "accepted": 4, "moved": 2, "generated_tokens": 40} if arm == "entropy_cut" else None
    return {
        "arm": arm,
        "problem": f"letters/{problem}",
        "repeat": repeat,
        "status": "answered",
        "text": NASTY,
        "finish_reason": "stop",
        "budget_tokens": None if power else 40,
        "tokens": {"prompt": 1, "completion": 10, "generated": 40 if power else 10 + problem},
        "log_p": -float(problem),
        "power": power,
        "chain": {"log_p": -2.0 * problem, "ended_by": "completed"} if power else None,
        "verdict": {
            "status": "correct" if right else "incorrect",
            "extracted": None,
            "grader": "letters 1",
            "detail": NASTY,
            "others": {"paper": True},
        },
        "timings": {"server_s": 1.0, "waited_s": 0.0, "grade_s": 0.5, "harness_s": 0.001},
        **more,
    }


def failure(arm: str, problem: int, repeat: int) -> dict[str, Any]:
    return {"arm": arm, "problem": f"letters/{problem}", "repeat": repeat, "status": "failed", "budget_tokens": 40}


def save(folder: Path, chosen: Settings, records: list[dict[str, Any]]) -> Path:
    with Folder(folder, chosen) as opened:
        for each in records:
            opened.append(each)
    return folder


RIGHT = {"entropy_cut": [[1, 1], [1, 0], [1, 1], [0, 1]], "standard": [[1, 0], [0, 0], [1, 1], [0, 0]]}


def full(folder: Path) -> Path:
    """Four problems, two answers each, by two arms."""
    found = [answer(arm, p, r, bool(rows[p][r])) for arm, rows in RIGHT.items() for p in range(4) for r in range(2)]
    return save(folder, settings(), found)


def summary(*folders: Path, **more: Any) -> dict[str, Any]:
    return summarise(grouped(folders), Level(), **more)


def bound(arm: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    (found,) = [each for each in arm["bounds"] if wanted.items() <= each.items()]
    return found


def test_numbers_against_sums_by_hand(tmp_path: Path) -> None:
    (section,) = summary(full(tmp_path / "run"))["benchmarks"]
    power, standard = section["arms"]
    assert (power["answers"], power["wanted"], power["correct"], power["problems"]) == (8, 8, 6, 4)
    assert power["accuracy"]["value"] == 6 / 8
    assert power["pass_at_k"]["1"]["value"] == 6 / 8
    assert power["pass_at_k"]["2"]["value"] == pytest.approx(np.mean([pass_at_k(2, c, 2) for c in (2, 1, 2, 1)]))
    assert power["chain"]["acceptance"]["value"] == 0.4
    assert power["chain"]["moved"]["value"] == 0.2
    assert power["log_p"]["text"]["value"] == -1.5
    assert power["log_p"]["answer"]["value"] == -3.0
    assert power["cost"]["total_generated_tokens"] == 320
    assert standard["chain"] is None
    assert standard["log_p"]["answer"] is None
    assert standard["cost"]["of_budget"] == pytest.approx(sum(10 + p for p in range(4)) * 2 / 320)
    assert standard["graders_differ"] == {"paper": 5}
    assert section["grid"]["letters/1"] == {"entropy_cut": 0.5, "standard": 0.0}
    (pair,) = section["pairs"]
    assert (pair["wins"], pair["losses"], pair["ties"]) == (3, 0, 1)
    assert pair["difference"]["value"] == pytest.approx(3 / 8)
    assert pair["mcnemar_z"] == pytest.approx(3 / math.sqrt(3))


def test_bounds_state_what_they_are_of(tmp_path: Path) -> None:
    (section,) = summary(full(tmp_path / "run"))["benchmarks"]
    power = section["arms"][0]
    exact = binomtest(3, 4).proportion_ci(0.95, "exact")  # the first answer to each problem
    found = bound(power, estimand="problem_population", method="binomial_tail", side="two_sided")
    assert (found["lower"], found["upper"]) == pytest.approx((exact.low, exact.high))
    pooled = binomtest(6, 8).proportion_ci(0.95, "exact")
    found = bound(power, estimand="fixed_benchmark")
    assert (found["method"], found["lower"]) == ("binomial_tail_fixed", pytest.approx(pooled.low))
    united = bound(power, side="lower", configurations_tried=2)
    assert united["lower"] == pytest.approx(binomtest(3, 4, alternative="greater").proportion_ci(0.975, "exact").low)
    assert bound(power, method="chernoff_kl")["lower"] < power["accuracy"]["value"]


def test_what_is_unknown_lowers_the_lower_and_raises_the_upper_bound(tmp_path: Path) -> None:
    """Of ten problems 5 right, 3 wrong, 1 call failed, 1 answer could not be graded."""
    ungraded = answer("standard", 9, 0, right=False)
    ungraded["verdict"] |= {"status": "failed"}
    records = [answer("standard", p, 0, right=p < 5) for p in range(8)] + [failure("standard", 8, 0), ungraded]
    folder = save(tmp_path / "run", settings(12, 1, ARMS[1:]), records)
    arm = summary(folder)["benchmarks"][0]["arms"][0]
    assert (arm["answers"], arm["failed_calls"], arm["ungraded"], arm["not_yet_asked"]) == (9, 1, 1, 2)
    assert arm["accuracy"]["value"] == pytest.approx(5 / 9)
    found = bound(arm, estimand="problem_population", side="two_sided")
    assert found["lower"] == pytest.approx(binomtest(5, 10).proportion_ci(0.95, "exact").low)
    assert found["upper"] == pytest.approx(binomtest(7, 10).proportion_ci(0.95, "exact").high)
    text = write_report([folder], tmp_path, Level())
    for told in ("2 answers are still to be asked", "1 calls got no answer", "1 answers could not be graded"):
        assert told in text


def test_unequally_many_answers_are_not_pooled(tmp_path: Path) -> None:
    records = [answer("standard", 0, 0, True), answer("standard", 0, 1, True), answer("standard", 1, 0, False)]
    folder = save(tmp_path, settings(2, 2, ARMS[1:]), records)
    assert bound(summary(folder)["benchmarks"][0]["arms"][0], estimand="fixed_benchmark")["method"] == "hoeffding_means"


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    folder = save(tmp_path / "run", settings(), [])
    assert "still to be asked" in write_report([folder], tmp_path / "out", Level())
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["benchmarks"][0]["arms"][0]["accuracy"] == {"value": None, "lower": None, "upper": None}


def test_several_folders_stand_side_by_side_where_they_are_of_the_same_data(tmp_path: Path) -> None:
    one, two = full(tmp_path / "one"), full(tmp_path / "two")
    found = summary(one, two, reference="two/standard")["benchmarks"]
    assert len(found) == 1
    assert [arm["label"] for arm in found[0]["arms"]] == [
        "one/entropy_cut",
        "one/standard",
        "two/entropy_cut",
        "two/standard",
    ]
    assert {pair["first"] for pair in found[0]["pairs"]} == {"two/standard"}
    assert found[0]["configurations_tried"] == 4
    other = save(tmp_path / "three", replace(settings(), data_sha256="other"), [])
    assert len(summary(one, other)["benchmarks"]) == 2
    assert prefixes([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == [f"{tmp_path}/a/run/", f"{tmp_path}/b/run/"]
    with pytest.raises(OptionError, match="no arm 'x'"):
        summary(one, reference="x")
    with pytest.raises(OptionError, match="at least as many"):
        summarise(grouped([one]), Level(tried=1))


class Links(HTMLParser):
    """Every tag, and every place a browser would fetch from."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "data", "action"} and not (value or "").startswith("#"):
                self.fetched.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


@pytest.mark.slow
def test_the_page_stands_alone_and_runs_nothing(tmp_path: Path) -> None:
    folder = full(tmp_path / "run")
    write_report([folder], tmp_path, Level())
    text = (tmp_path / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert (links.fetched, links.handlers) == ([], [])
    assert "script" not in links.tags
    assert "url(http" not in text
    assert "@import" not in text
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in text
    assert text.count("<svg") == 3
    identities = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(identities) == len(set(identities)), "plots do not share ids"
    for part in text.split("<svg")[1:]:
        ElementTree.fromstring(f"<svg{part[: part.index('</svg>')]}</svg>")
    write_report([folder], tmp_path, Level())
    assert (tmp_path / "report.html").read_text() == text, "the same records give the same page"


def test_texts_can_be_left_out_and_gpqas_always_are(tmp_path: Path) -> None:
    write_report([full(tmp_path / "run")], tmp_path, Level(), texts=False)
    assert "alert" not in (tmp_path / "report.html").read_text()
    secret = replace(settings(1, 1, ARMS[1:]), benchmark="gpqa")
    folder = save(tmp_path / "gpqa", secret, [answer("standard", 0, 0, True)])
    write_report([folder], tmp_path, Level())
    assert "alert" not in (tmp_path / "report.html").read_text()


def test_cells_and_blocks_are_escaped() -> None:
    assert cell("a|b\n<c>") == "a\\|b &lt;c>"
    made = from_markdown(table(["x"], [["a|b <i>&"]]))
    assert made == "<table><tr><th>x</th></tr><tr><td>a|b &lt;i&gt;&amp;</td></tr></table>"
    assert (
        from_markdown("# a **b**\n\n- `c`\n\nd")
        == "<h1>a <strong>b</strong></h1>\n<ul><li><code>c</code></li></ul>\n<p>d</p>"
    )


def test_problems_are_in_natural_order() -> None:
    assert sorted(["H/10", "H/9", "H/a", "G/1"], key=natural) == ["G/1", "H/9", "H/10", "H/a"]


ROW = {
    "benchmark": "letters",
    "label": "entropy cut",
    "accuracy": 0.719,
    "model": "Some 7B",
    "prompt": "the paper's",
    "grader": "the paper's",
    "source": "arXiv, Table 1",
}


def test_published_numbers_come_with_their_conditions(tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    path.write_text(json.dumps([ROW, ROW | {"benchmark": "other"}]))
    text = write_report([full(tmp_path / "run")], tmp_path, Level(), published=read_published(path))
    assert text.count("| entropy cut | 0.719 | Some 7B | the paper's | the paper's | arXiv, Table 1 |") == 1


@pytest.mark.parametrize("field", list(ROW))
def test_a_published_number_without_its_conditions_is_refused(field: str, tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    path.write_text(json.dumps([{name: value for name, value in ROW.items() if name != field}]))
    with pytest.raises(OptionError, match=f"entry 1: {field}"):
        read_published(path)


@pytest.mark.parametrize(
    "content", ["{", "{}", "[1]", json.dumps([ROW | {"x": 1}]), json.dumps([ROW | {"accuracy": 72}])]
)
def test_a_published_file_that_is_not_one_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    path.write_text(content)
    with pytest.raises(OptionError, match="--published"):
        read_published(path)
