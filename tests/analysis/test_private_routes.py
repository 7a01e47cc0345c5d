"""`private-subspace` as callers meet it: what leaves, what never does, what is refused, and what it costs."""

import asyncio
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sampler.engines.tabular import from_table
from service.analysis.analyst import Analyst, Caller
from service.analysis.frame import Context
from service.analysis.private_subspace import PRIVATE_SUBSPACE, SubspaceRequest, work
from service.app import create_app
from service.errors import ApiError
from service.jobs.database import Database
from service.jobs.ledger import StoreLedger
from service.settings import Settings
from tests.analysis.conftest import PATIENCE_S
from tests.service.serving import serving_app
from tests.service.tables import letters_table

PATH = "/v1/analysis/private-subspace"
PLANE = [[a, b, 3 * a - b, a + b] for a in range(1, 9) for b in range(-4, 4)]
ECHELON = [[1, 0, 3, 1], [0, 1, -1, 1]]
names = itertools.count()


def asked(**changes: Any) -> dict[str, Any]:
    """A request for a plane that 64 rows agree on, on a data set of its own."""
    return {"data": PLANE, "subspace_dim": 2, "dataset_id": f"set-{next(names)}"} | changes


def assert_refused(reply: httpx.Response, status: int, field: str) -> None:
    """The refusal names the field."""
    assert reply.status_code == status, reply.text
    wrong = reply.json()["error"]
    assert wrong["param"] == field, wrong
    assert field in wrong["message"]


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A client of a service with a ledger of its own."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), analysis_time_limit_s=PATIENCE_S)
    app = create_app(from_table(letters_table(), "letters"), settings)
    with serving_app(app) as url, httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        yield client


@pytest.mark.slow
def test_a_release_and_its_budget(private: httpx.Client) -> None:
    body = asked()
    reply = private.post(PATH, json=body).json()
    assert reply["private"] is True
    assert reply["released"] is True
    assert reply["basis"] == ECHELON
    assert reply["basis_form"] == "rref_rational"
    assert reply["debug"] is None
    assert reply["seed"] is None
    assert reply["privacy"]["epsilon"] == 1.0
    assert reply["privacy"]["delta"] == pytest.approx(1.0037e-6, rel=1e-4)
    assert reply["privacy"]["budget_remaining"]["epsilon"] == pytest.approx(2.0)
    for _ in range(2):
        private.post(PATH, json=body).raise_for_status()
    spent = private.post(PATH, json=body)
    assert_refused(spent, 403, "privacy")
    assert spent.json()["error"]["code"] == "privacy_budget_spent"
    assert private.post(PATH, json=asked()).status_code == 200  # another data set


@pytest.mark.slow
def test_the_same_release_is_never_drawn_twice(private: httpx.Client) -> None:
    """Under its name a release comes back as it is, even for a margin that is a coin's toss, and for free."""
    tossed = [[*row[:3], row[3] + (i < 12)] for i, row in enumerate(PLANE)]
    body = asked(data=tossed, release_id="only-one", privacy={"epsilon": 0.9})
    first = private.post(PATH, json=body).json()
    assert first["release_id"] == "only-one"
    assert all(private.post(PATH, json=body).json() == first for _ in range(5))
    picture = private.post(PATH, json=body, headers={"accept": "image/png"})
    assert picture.content.startswith(b"\x89PNG")
    mismatch = private.post(PATH, json=body | {"subspace_dim": 1})
    assert_refused(mismatch, 409, "release_id")
    # Other rows under the same name: comparing them would tell of the rows.
    assert private.post(PATH, json=body | {"data": PLANE}).json() == first


@pytest.mark.slow
def test_bad_rows_count_as_zero_rows_and_say_nothing(private: httpx.Client) -> None:
    zeros = [[0, 0, 0, 0]] * 5
    bad: list[Any] = [[1, 2, 3], "row", [1.5, 0, 0, 0], [1 << 30, 0, 0, 0], [None, 1, 2, 3]]
    keep = {"dimension": 4, "unsafe_debug": True, "seed": 3, "dataset_id": "x"}
    clean = private.post(PATH, json=asked(data=[*PLANE, *zeros], **keep)).json()
    dirty = private.post(PATH, json=asked(data=[*PLANE, *bad], **keep)).json()
    assert dirty == clean
    for text in ("NaN", "1e999", "-Infinity", "true", '{"a": 1}'):
        content = json.dumps(asked(data=[*PLANE, *zeros], **keep)).replace("[0, 0, 0, 0]", f"[0, 0, 0, {text}]")
        assert private.post(PATH, content=content, headers={"content-type": "application/json"}).json() == clean
    floats = [[float(entry) for entry in row] for row in PLANE] + zeros
    assert private.post(PATH, json=asked(data=floats, **keep)).json() == clean


@pytest.mark.slow
def test_a_refusal_says_only_that(private: httpx.Client) -> None:
    """Two data sets without a majority: whatever differs between them, the replies do not."""
    halves = [PLANE[i] if i % 2 else [i, i * i, -7 * i, 11] for i in range(64)]
    nothing = [[i, i * i, i**3 % 97, (i * 31) % 17] for i in range(64)]
    replies = [private.post(PATH, json=asked(data=rows)).json() for rows in (halves, nothing)]
    for reply in replies:
        assert reply.pop("release_id").startswith("release_")
        assert reply["released"] is False
        assert reply["basis"] is None
    assert replies[0] == replies[1]


def test_a_seed_gives_up_privacy_and_costs_nothing(private: httpx.Client) -> None:
    assert_refused(private.post(PATH, json=asked(seed=4)), 422, "seed")
    body = asked(seed=4, unsafe_debug=True, method="approximate", noise_ratio=1e-6, data=plane_rows())
    first, second = (private.post(PATH, json=body).json() for _ in range(2))
    assert first == second
    assert first["private"] is False
    assert first["seed"] == 4
    assert first["warnings"][0]["code"] == "not_private"
    assert first["privacy"]["budget_remaining"] is None
    assert first["debug"]["release_probability"] == 1.0
    drawn = asked(unsafe_debug=True)
    assert private.post(PATH, json=drawn).json()["debug"]["top_score"] == 56


def plane_rows(n: int = 1024, d: int = 6) -> list[list[float]]:
    """Rows within 1e-7 of a plane."""
    return [
        [
            float((i * 37) % 101 - 50) * (j == 0) + float((i * 53) % 89 - 44) * (j == 1) + 1e-7 * ((i * j) % 7)
            for j in range(d)
        ]
        for i in range(n)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"noise_ratio": 1e-7}, {"noise_ratio": 1e-7, "selection": "stable_histogram"}])
def test_the_approximate_method(private: httpx.Client, more: dict[str, Any]) -> None:
    reply = private.post(PATH, json=asked(data=plane_rows(), method="approximate", **more)).json()
    assert reply["basis_form"] == "orthonormal_float"
    if reply["released"]:  # the grid may part the blocks, rarely
        assert all(abs(entry) < 1e-2 for line in reply["basis"] for entry in line[2:])
    assert reply["utility"]["expected_error"] < 0.01


def test_the_approximate_method_refuses_what_it_cannot_say(private: httpx.Client) -> None:
    scattered = [[float((i * p) % 101 - 50) for p in (3, 7, 11, 13, 17, 19)] for i in range(1024)]
    body = asked(data=scattered, method="approximate", noise_ratio=1e-6)
    assert private.post(PATH, json=body).json()["released"] is False
    coarse = private.post(PATH, json=body | {"noise_ratio": 0.5})
    assert_refused(coarse, 422, "noise_ratio")
    assert "gaussian_covariance" in coarse.json()["error"]["message"]
    body = asked(data=plane_rows(), method="approximate", unsafe_debug=True, noise_ratio=1e-7)
    fine = private.post(PATH, json=body).json()
    assert fine["warnings"][1:] == []
    ratio = 1e-7 * 0.6 / fine["utility"]["expected_error"]  # the error is proportional to it
    near = private.post(PATH, json=body | {"noise_ratio": ratio}).json()
    assert "weak_utility" in {one["code"] for one in near["warnings"]}


@pytest.mark.slow
def test_noise_on_moments(private: httpx.Client) -> None:
    body = asked(data=plane_rows(), method="gaussian_covariance", row_norm_bound=20.0)
    reply = private.post(PATH, json=body).json()
    assert reply["released"] is True
    assert reply["privacy"]["delta"] == 1e-6
    assert sum(entry * entry for line in reply["basis"] for entry in line[:2]) > 1.5


REJECTED: list[tuple[dict[str, Any], str]] = [
    ({"subspace_dim": 0}, "subspace_dim"),
    ({"subspace_dim": 4}, "subspace_dim"),
    ({"privacy": {"epsilon": 0}}, "privacy.epsilon"),
    ({"privacy": {"epsilon": -1.0}}, "privacy.epsilon"),
    ({"privacy": {"delta": 0}}, "privacy.delta"),
    ({"privacy": {"delta": 0.02}}, "privacy.delta"),
    ({"privacy": {"neighbouring": "add_remove"}}, "privacy.neighbouring"),
    ({"data": [[1, 2, 3]], "subspace_dim": 1}, "data"),
    ({"data": [[1, 2, 3], [1, 2]], "subspace_dim": 1}, "data"),
    ({"data": {"rows": 3}}, "data"),
    ({"data": [[1, 2, 3]] * 4, "subspace_dim": 1, "dimension": 1}, "dimension"),
    ({"data": [[j, 1, 2, 3, 4, 5, 6] for j in range(64)], "subspace_dim": 6}, "data"),
    ({"data": [[1, 2, 3]] * 3000}, "data"),
    ({"data": [[0] * 9] * 64, "subspace_dim": 8}, "subspace_dim"),
    ({"method": "approximate"}, "noise_ratio"),
    ({"method": "approximate", "noise_ratio": 0}, "noise_ratio"),
    ({"method": "approximate", "noise_ratio": 1e-6}, "num_blocks"),
    (
        {"method": "approximate", "noise_ratio": 1e-6, "num_blocks": 16, "num_reference_points": 1},
        "num_reference_points",
    ),
    ({"noise_ratio": 1e-6}, "noise_ratio"),
    ({"num_blocks": 64}, "num_blocks"),
    ({"row_norm_bound": 1.0}, "row_norm_bound"),
    ({"selection": "gap"}, "selection"),
    ({"method": "svd"}, "method"),
    ({"dataset_id": "a b"}, "dataset_id"),
    ({"seed": 1}, "seed"),
    ({"scores": True}, "scores"),
]


@pytest.mark.parametrize(("changes", "field"), REJECTED)
def test_what_is_refused_by_shape_and_parameters(private: httpx.Client, changes: dict[str, Any], field: str) -> None:
    body = asked(**changes)
    assert_refused(private.post(PATH, json=body), 422, field)
    if "data" not in changes or not isinstance(changes["data"], list):
        return
    # The refusal does not depend on the values: the same rows, all zero.
    zeroed = [[0] * len(row) for row in changes["data"]]
    assert_refused(private.post(PATH, json=body | {"data": zeroed}), 422, field)


def test_too_few_rows_are_told_by_their_number(private: httpx.Client) -> None:
    reply = private.post(PATH, json=asked(data=PLANE[:40])).json()
    assert [one["code"] for one in reply["warnings"]] == ["too_few_rows"]


def test_nothing_is_released_without_a_ledger() -> None:
    async def run() -> None:
        analyst = Analyst(Settings())
        with pytest.raises(ApiError) as refused:
            await analyst.analyse("private-subspace", asked())
        assert (refused.value.status, refused.value.code) == (503, "no_ledger")
        assert (await analyst.analyse("private-subspace", asked(unsafe_debug=True)))["private"] is False
        await analyst.aclose()

    asyncio.run(run())


@pytest.mark.slow
def test_the_row_of_a_batch_that_runs_again_gets_its_release(tmp_path: Path) -> None:
    """A server that died after the debit, and one that died after the release: one charge, one draw that is seen."""

    async def run() -> None:
        settings = Settings(data_dir=tmp_path)
        ledger = StoreLedger(Database(None, tmp_path), settings)
        analyst = Analyst(settings, ledger=ledger)
        row, body = Caller("key", "batch_1/7"), asked(dataset_id="rows")
        charge = PRIVATE_SUBSPACE.charge
        assert charge is not None
        cost = charge(SubspaceRequest.model_validate(body))
        assert cost is not None
        before = ledger.debit("key", replace(cost, release_id="batch_1/7"))  # and then the power was cut
        assert before.remaining.epsilon == 2.0
        first = await analyst.analyse("private-subspace", body, caller=row)
        again = await analyst.analyse("private-subspace", body, caller=row)
        assert again == first
        assert first["privacy"]["budget_remaining"]["epsilon"] == 2.0
        assert first["release_id"] == "batch_1/7"
        other = await analyst.analyse("private-subspace", body, caller=Caller("key", "batch_1/8"))
        assert other["privacy"]["budget_remaining"]["epsilon"] == 1.0
        stranger = await analyst.analyse("private-subspace", body, caller=Caller("another", "batch_1/7"))
        assert stranger["privacy"]["budget_remaining"]["epsilon"] == 2.0
        await analyst.aclose()

    asyncio.run(run())


def test_the_picture_looks_at_no_row() -> None:
    request = SubspaceRequest.model_validate(asked(unsafe_debug=True))
    response = work.compute(request, Context(None))
    blind = request.model_copy(update={"data": None})
    figure = work.draw(blind, response)
    assert len(figure.axes) >= 2
