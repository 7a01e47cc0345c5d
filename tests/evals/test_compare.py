"""Comparisons: the reference's cost on a problem is every arm's budget there, and what was spent is on record."""

from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

from evals.arms import EFFORT, PAPER, TAKES, check_arms, method_arm, preset_fields, read_arm, single_arm
from evals.errors import OptionError
from evals.problem import Defaults
from evals.records import Key
from evals.settings import Arm
from sampler.methods import METHODS
from tests.evals.running import POWER, carry, lasting, plan
from tests.evals.servers import Scripted, answers, completion, refuses, served

ARMS = tuple(
    method_arm(name, POWER, None, None)
    for name in ("entropy_cut", "standard", "low_temperature", "uniform_cut", "best_of_n")
)


def test_the_methods_fields_are_the_samplers() -> None:
    assert set(TAKES) == set(METHODS)
    for name, fields in TAKES.items():
        expected = METHODS[name].fields - {"include", "stream_events"} if name != "standard" else frozenset()
        assert fields == expected, name


def test_an_effort_goes_to_the_methods_that_take_it(powercut: str, tmp_path: Path) -> None:
    """The server refuses an effort to the others."""
    for name in EFFORT:
        arm = method_arm(name, {"effort": "low", "alpha": 4.0}, None, None)
        assert arm.power is not None
        assert arm.power["effort"] == "low"
    arms = tuple(method_arm(name, {"effort": "low"}, None, None) for name in TAKES)
    found = carry(plan(powercut, tmp_path, *arms, problems=1))
    assert [each["status"] for each in found.values()] == ["answered"] * len(TAKES)


@pytest.mark.slow
def test_equal_budgets_on_the_real_server(powercut: str, tmp_path: Path) -> None:
    found = carry(plan(powercut, tmp_path / "a", *ARMS, problems=6, repeats=2, reference="entropy_cut"))
    assert len(found) == 60
    for problem in range(6):
        for repeat in range(2):
            records = {arm.name: found[Key(arm.name, f"letters/{problem}", repeat)] for arm in ARMS}
            budget = records["entropy_cut"]["tokens"]["generated"]
            assert records["entropy_cut"]["budget_tokens"] is None
            assert len({each["seed"] for each in records.values()}) == 1
            for name, each in records.items():
                if name == "entropy_cut":
                    continue
                assert each["budget_tokens"] == budget
                over = 7 if name == "best_of_n" else 0  # it keeps the draw that crosses the budget
                assert each["tokens"]["generated"] <= budget + over
            assert records["standard"]["request"]["max_tokens"] == min(8, budget)
            assert records["uniform_cut"]["request"]["power"]["max_generated_tokens"] == budget
    again = carry(plan(powercut, tmp_path / "b", *ARMS, problems=6, repeats=2, reference="entropy_cut", concurrency=1))
    assert lasting(again) == lasting(found)


def test_an_arm_that_is_not_capped_takes_its_own_course(powercut: str, tmp_path: Path) -> None:
    free = Arm("free", {"method": "uniform_cut", **POWER}, capped=False)
    found = carry(plan(powercut, tmp_path, ARMS[0], free, problems=3, reference="entropy_cut"))
    for problem in range(3):
        each = found[Key("free", f"letters/{problem}", 0)]
        assert each["budget_tokens"] is None
        assert each["chain"]["ended_by"] == "completed"


def test_without_the_reference_there_is_no_budget_and_so_no_answer_yet(tmp_path: Path) -> None:
    arms = Arm("power", {"method": "entropy_cut"}), Arm("standard", None)

    def no_power(body: dict[str, Any]) -> Any:
        return refuses(500, "out of luck")(body) if "power" in body else answers(body)

    server = Scripted(otherwise=no_power)
    with served(server.app) as url:
        found = carry(plan(url, tmp_path, *arms, problems=3, reference="power"))
        assert {key.arm for key in found} == {"power"}
        assert {each["status"] for each in found.values()} == {"failed"}
        server.otherwise = lambda body: JSONResponse(completion(tokens=5))
        found = carry(plan(url, tmp_path, *arms, problems=3, reference="power"))
    assert len(found) == 6
    assert {each["budget_tokens"] for key, each in found.items() if key.arm == "standard"} == {5}
    assert {each["request"]["max_tokens"] for key, each in found.items() if key.arm == "standard"} == {5}


def test_started_problems_are_finished_before_new_ones_begin(tmp_path: Path) -> None:
    server = Scripted()
    arms = Arm("first", None), Arm("second", None, temperature=0.5)
    with served(server.app) as url:
        carry(plan(url, tmp_path, *arms, problems=6, reference="first", concurrency=1))
    order = [("temperature" in body, body["prompt"]) for body in server.bodies]
    positions = [order.index((True, prompt)) - order.index((False, prompt)) for _, prompt in order]
    assert max(positions) <= 2, "the worker takes one new problem at most while a record is written"


def test_arms_from_the_command_line() -> None:
    shared = {"alpha": 5.0, "blocks": 2, "cut_power": 4}
    assert read_arm("best_of_n", shared, None, None) == Arm("best_of_n", {"method": "best_of_n", "alpha": 5.0})
    assert read_arm("standard", shared, 0.7, None) == Arm("standard", None, 0.7)
    found = read_arm('wide={"method": "uniform_cut", "blocks": 9}', shared, None, None)
    assert found == Arm("wide", {"method": "uniform_cut", "alpha": 5.0, "blocks": 9})
    assert read_arm('cold={"temperature": 0.25}', shared, 1.0, 0.9) == Arm("cold", None, 0.25, 0.9)
    found = read_arm('far={"url": "http://h:1", "model": "m", "method": "new", "x": 1}', shared, None, None)
    assert found == Arm("far", {"method": "new", "x": 1}, model="m", url="http://h:1")
    assert read_arm("rl=http://h:1/v1#org/rl-7b", shared, None, None) == Arm(
        "rl", None, model="org/rl-7b", url="http://h:1/v1"
    )
    assert not read_arm('free={"method": "uniform_cut", "capped": false}', shared, None, None).capped
    assert read_arm("rl=https://h", shared, 0.5, None) == Arm("rl", None, 0.5, url="https://h")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch", "unknown method"),
        ("a b=http://h", "no name"),
        ("x={", "not JSON"),
        ("x=[1]", "wanted"),
        ("x=ftp://h", "wanted"),
        ('x={"method": "entropy_cut", "temperature": 1}', "plain sampling's"),
        ('x={"method": "standard"}', "leave out method"),
        ("=http://h", "no name"),
        ('x={"capped": 1}', "true or false"),
        ('x={"model": 1}', "a text"),
    ],
)
def test_arms_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_arm(text, {}, None, None)


def test_names_are_unique_and_the_reference_is_one_of_them() -> None:
    with pytest.raises(OptionError, match="twice"):
        check_arms([ARMS[0], ARMS[0]], None)
    with pytest.raises(OptionError, match="no arm 'x'"):
        check_arms(ARMS, "x")
    check_arms(ARMS, "standard")


def test_a_runs_arm_has_the_benchmarks_alpha_the_preset_and_what_was_given() -> None:
    humaneval = Defaults(max_tokens=512, alpha=5.0, paper_max_tokens=3072)
    assert single_arm({}, preset_fields(humaneval, paper=False)).power == {"method": "entropy_cut", "alpha": 5.0}
    paper = preset_fields(humaneval, paper=True)
    assert single_arm({"mode": "exact"}, paper).power == {
        "method": "entropy_cut",
        "alpha": 5.0,
        **PAPER,
        "mode": "exact",
    }
    low = single_arm({"method": "low_temperature", "blocks": 3}, paper)
    assert low.power == {"method": "low_temperature", "alpha": 5.0, "top_k": 50, "blocks": 3}, (
        "for the server to refuse"
    )


def test_the_published_settings_are_taken_by_the_server(powercut: str, tmp_path: Path) -> None:
    preset = preset_fields(Defaults(8, 4.0, 8), paper=True) | {"blocks": 2, "steps_per_block": 1}
    arms = tuple(single_arm({"method": name}, preset) for name in TAKES if name not in {"standard", "smc", "tmc"})
    found = carry(plan(powercut, tmp_path, *arms, problems=1))
    assert {each["status"] for each in found.values()} == {"answered"}
    assert found[Key("entropy_cut", "letters/0", 0)]["chain"]["mode"] == "paper"
