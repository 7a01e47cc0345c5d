"""The three routes as callers meet them: replayed answers, certificates to re-check, refusals."""

import json
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.checks import assert_error

PATH = "/v1/analysis/positive-query-learning"
CERTIFICATE, LEARNABILITY = f"{PATH}/certificate", f"{PATH}/learnability"
NORMAL, OFFSET = np.array([1.0, -0.5]), 0.2
RNG = np.random.default_rng(3)
PLANE = [point.tolist() for point in RNG.standard_normal((900, 2)) if point @ NORMAL >= OFFSET]
HALFSPACE: dict[str, Any] = {"concept_class": "halfspace", "positive_examples": PLANE, "seed": 11}
TARGET = {"type": "target", "normal": NORMAL.tolist(), "offset": OFFSET}


def talk(http: httpx.Client, body: dict[str, Any], label: Any) -> tuple[dict[str, Any], int]:
    """Answer queries until the service is done; the last reply and how many requests it took."""
    answers: list[dict[str, Any]] = []
    for turn in range(1, 200):
        reply = http.post(PATH, json=body | {"answers": answers})
        assert reply.status_code == 200, reply.text
        found = reply.json()
        if found["status"] == "done":
            return found, turn
        assert found["hypothesis"] is None
        assert found["queries"]
        answers += [one | {"label": bool(label(one["point"]))} for one in found["queries"]]
    raise AssertionError("it never ends")


@pytest.mark.slow
def test_answers_are_replayed_and_give_what_the_oracle_gives(http: httpx.Client) -> None:
    at_once = http.post(PATH, json=HALFSPACE | {"oracle": TARGET}).json()
    replayed, turns = talk(http, HALFSPACE, lambda point: np.array(point) @ NORMAL >= OFFSET)
    assert replayed == at_once
    assert turns > 3
    assert turns < at_once["queries_used"], "the bisections of a round go out as one batch"
    assert at_once["false_positives"] == "none (certified)"
    assert 0 < at_once["false_negative_upper_bound"] <= 0.05
    assert not at_once["warnings"]
    assert at_once["hypothesis"]["rounds"][0]["newly_certified"] > 200


def test_a_dnf_is_learned_over_http(http: httpx.Client) -> None:
    body = {"concept_class": "monotone_dnf", "num_terms": 2, "seed": 1}
    body["positive_examples"] = [[1, 1, 0, 1], [0, 0, 1, 0], [1, 1, 1, 0]]
    found, _ = talk(http, body, lambda point: (point[0] and point[1]) or point[2])
    assert sorted(found["hypothesis"]["terms"]) == [[1, 2], [3]]


def test_a_finite_class_is_learned_over_http(http: httpx.Client) -> None:
    concepts = [[x for x in range(4) if x != missing] for missing in range(4)]
    body = {"concept_class": "finite", "domain_size": 4, "concepts": concepts, "positive_examples": [0, 1], "seed": 1}
    found, _ = talk(http, body, lambda point: point != 2)
    assert found["hypothesis"]["elements"] == [0, 1, 3]
    assert found["transcript"]["negatives"] == [2]


def test_every_accepted_point_has_a_certificate_that_can_be_rechecked(http: httpx.Client) -> None:
    points = [[1.0, 0.0], [0.0, 0.0], [2.0, 3.0], [-1.0, 0.4], [0.5, 0.5]]
    reply = http.post(PATH, json=HALFSPACE | {"oracle": TARGET, "classify": points}).json()
    assert reply["classified"] == [True, False, True, False, True]
    for point, accepted in zip(points, reply["classified"], strict=True):
        body = {"concept_class": "halfspace", "transcript": reply["transcript"], "point": point}
        found = http.post(CERTIFICATE, json=body).json()
        assert found["certified"] is accepted
        if accepted:
            total = [Fraction(0)] * 3
            for sign, name in ((1, "positive_weights"), (-1, "negative_weights")):
                for one in found[name]:
                    for axis, number in enumerate([*one["point"], 1]):
                        total[axis] += sign * Fraction(one["weight"]) * Fraction(number)
            assert total == [Fraction(point[0]), Fraction(point[1]), 1]


def test_without_exact_certificates_the_reply_says_so(http: httpx.Client) -> None:
    reply = http.post(PATH, json=HALFSPACE | {"oracle": TARGET, "exact_certificate": False}).json()
    assert "float_test" in {one["code"] for one in reply["warnings"]}
    assert reply["false_positives"] != "none (certified)"


def test_a_budget_that_ends_is_told(http: httpx.Client) -> None:
    reply = http.post(PATH, json=HALFSPACE | {"oracle": TARGET, "max_queries": 5}).json()
    assert reply["status"] == "done"
    assert reply["queries_used"] <= 5
    assert "budget_ended" in {one["code"] for one in reply["warnings"]}


@pytest.mark.parametrize(
    ("body", "certified", "witness"),
    [
        ({"concept_class": "k_cnf", "transcript": {"positives": [[1, 1], [1, 0]]}, "point": [0, 1]}, False, [1]),
        ({"concept_class": "k_cnf", "transcript": {"positives": [[1, 1], [1, 0]]}, "point": [1, 0]}, True, None),
        ({"concept_class": "monotone_dnf", "transcript": {"positives": [[1, 0]]}, "point": [1, 1]}, True, [1]),
        ({"concept_class": "monotone_dnf", "transcript": {"positives": [[1, 0]]}, "point": [0, 1]}, False, None),
    ],
)
def test_other_classes_have_witnesses(
    http: httpx.Client, body: dict[str, Any], certified: bool, witness: list[int] | None
) -> None:
    found = http.post(CERTIFICATE, json=body).json()
    assert (found["certified"], found["witness"]) == (certified, witness)


@pytest.mark.slow
def test_a_finite_certificate_names_the_concept_that_spoils_it(http: httpx.Client) -> None:
    body = {"concept_class": "finite", "domain_size": 3, "concepts": [[0, 1], [0, 2]], "point": 1}
    assert http.post(CERTIFICATE, json=body | {"transcript": {"positives": [0]}}).json()["witness"] == [1]
    found = http.post(CERTIFICATE, json=body | {"transcript": {"positives": [0], "negatives": [2]}}).json()
    assert found["certified"]


CONCEPTS = [[0, 1], [1, 2]]
FINITE: dict[str, Any] = {"concept_class": "finite", "domain_size": 3, "concepts": CONCEPTS, "positive_examples": [0]}
DNF: dict[str, Any] = {"concept_class": "monotone_dnf", "num_terms": 2, "positive_examples": [[1, 0, 1]]}
SMALL = {"concept_class": "halfspace", "positive_examples": PLANE[:30]}
STRAY = [{"query_id": 500, "point": [0.0, 0.0], "label": True}]
FIRST_ELSEWHERE = [{"query_id": 0, "point": [7.5, 7.5], "label": True}]
TWICE = [{"query_id": 0, "point": [7.5, 7.5], "label": True}] * 2
REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    (PATH, {"concept_class": "halfspace", "positive_examples": []}, 422, "positive_examples"),
    (PATH, {"concept_class": "halfspace", "positive_examples": [[1.0], [1.0, 2.0]]}, 422, "positive_examples"),
    (PATH, {"concept_class": "halfspace", "positive_examples": [[0.0] * 33]}, 422, "positive_examples"),
    (PATH, {"concept_class": "halfspace", "positive_examples": [3]}, 422, "positive_examples"),
    (PATH, {"concept_class": "k_cnf", "positive_examples": [[0.5, 1.0]]}, 422, "positive_examples"),
    (PATH, {"concept_class": "k_cnf", "positive_examples": [[0] * 64], "k": 3}, 422, "k"),
    (PATH, {"concept_class": "k_cnf", "positive_examples": [[0, 1]], "max_queries": 3}, 422, "max_queries"),
    (PATH, SMALL | {"epsilon": 0.0}, 422, "epsilon"),
    (PATH, SMALL | {"delta": 1.0}, 422, "delta"),
    (PATH, SMALL | {"num_terms": 3}, 422, "num_terms"),
    (PATH, SMALL | {"answers": STRAY, "seed": 1}, 422, "answers"),
    (PATH, SMALL | {"answers": FIRST_ELSEWHERE, "seed": 1}, 422, "answers"),
    (PATH, SMALL | {"answers": TWICE, "seed": 1}, 422, "answers"),
    (PATH, SMALL | {"answers": FIRST_ELSEWHERE}, 422, "seed"),
    (PATH, SMALL | {"oracle": TARGET | {"normal": [1.0, 0.0, 0.0]}}, 422, "oracle.normal"),
    (PATH, SMALL | {"oracle": TARGET | {"normal": [0.0, 0.0]}}, 422, "oracle.normal"),
    (PATH, SMALL | {"oracle": {"type": "target", "terms": [[1]]}}, 422, "oracle"),
    (PATH, SMALL | {"oracle": TARGET | {"offset": 5.0}}, 409, "positive_examples"),
    (PATH, SMALL | {"classify": [[1.0]]}, 422, "classify"),
    (PATH, {key: value for key, value in DNF.items() if key != "num_terms"}, 422, "num_terms"),
    (PATH, DNF | {"oracle": {"type": "target", "terms": [[2]]}}, 409, "positive_examples"),
    (PATH, DNF | {"oracle": {"type": "target", "terms": [[9]]}}, 422, "oracle.terms"),
    (PATH, FINITE | {"positive_examples": [0, 2]}, 422, "positive_examples"),
    (PATH, FINITE | {"positive_examples": [5]}, 422, "positive_examples"),
    (PATH, FINITE | {"concepts": [[0, 1], [1, 0]]}, 422, "concepts"),
    (PATH, FINITE | {"concepts": [[0, 7]]}, 422, "concepts"),
    (PATH, FINITE | {"oracle": {"type": "target", "concept": 2}}, 422, "oracle.concept"),
    (PATH, {key: value for key, value in FINITE.items() if key != "concepts"}, 422, "concepts"),
    (LEARNABILITY, {"domain_size": 13, "concepts": [[0]]}, 422, "domain_size"),
    (LEARNABILITY, {"domain_size": 3, "concepts": [[0]] * 65}, 422, "concepts"),
    (LEARNABILITY, {"domain_size": 3, "concepts": [[0], [0, 0]]}, 422, "concepts"),
    (CERTIFICATE, {"concept_class": "halfspace", "transcript": {"positives": []}, "point": [0.0]}, 422, "transcript"),
    (CERTIFICATE, {"concept_class": "halfspace", "transcript": {"positives": [[0.0]]}, "point": 0}, 422, "point"),
    (CERTIFICATE, {"concept_class": "finite", "transcript": {"positives": [0]}, "point": 0}, 422, "needed"),
    (
        CERTIFICATE,
        {
            "concept_class": "halfspace",
            "transcript": {"positives": [[0.0], [2.0]], "negatives": [[1.0]]},
            "point": [0.0],
        },
        409,
        "transcript",
    ),
    (
        CERTIFICATE,
        {
            "concept_class": "monotone_dnf",
            "transcript": {"positives": [[1, 0]], "negatives": [[1, 1]]},
            "point": [0, 0],
        },
        409,
        "transcript",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body", "status", "field"), REFUSED, ids=[f"{json.dumps(one[1])[:50]}-{one[3]}" for one in REFUSED]
)
def test_what_is_refused_names_its_field(
    http: httpx.Client, path: str, body: dict[str, Any], status: int, field: str
) -> None:
    error = assert_error(http.post(path, json=body), status)
    assert field in error["message"]
    if status == 409:
        assert error["code"] == "inconsistent_oracle"


def test_answers_that_contradict_one_another_are_a_conflict(http: httpx.Client) -> None:
    body, answers = HALFSPACE | {"seed": 2}, []
    reply = http.post(PATH, json=body)
    for _ in range(100):
        if reply.status_code != 200 or reply.json()["status"] == "done":
            break
        queries = reply.json()["queries"]
        answers += [one | {"label": bool(np.array(one["point"]) @ NORMAL < OFFSET)} for one in queries]  # all lies
        reply = http.post(PATH, json=body | {"answers": answers})
    error = assert_error(reply, 409)
    assert error["code"] == "inconsistent_oracle"


def test_a_boolean_oracle_that_lies_is_a_conflict(http: httpx.Client) -> None:
    body = DNF | {"positive_examples": [[1, 0, 1], [0, 0, 1]], "seed": 1}
    asked = http.post(PATH, json=body).json()["queries"][0]
    assert asked["point"] == [0, 0, 1]
    lie = asked | {"label": False}
    error = assert_error(http.post(PATH, json=body | {"answers": [lie]}), 409)
    assert "query 0" in error["message"]
