"""A chain that is killed goes on from its last finished stage: the same tokens, and little drawn twice."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.jobs.servers import ServerProcess, answers, ask, content, finish, jsonl, submit, tabular
from tests.service.tables import endless_table

LONG_CHAIN: dict[str, Any] = {"blocks": 12, "steps_per_block": 20, "top_k": None}


@pytest.fixture(
    params=["table", pytest.param("SmolLM2", marks=[pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)])]
)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], dict[str, Any]]:
    """A server's options, and a row with one long chain for it."""
    if request.param == "table":
        table = tmp_path / "letters.json"
        table.write_bytes(jsonl([endless_table()]))
        body = {"model": "letters", "prompt": "hi", "max_tokens": 300, "power": LONG_CHAIN}
        return tabular(table, tmp_path / "data", None), body
    options = ["--data-dir", str(tmp_path / "data"), "--checkpoint-s", "0", "--batch-poll-s", "0.1"]
    chain = {"blocks": 6, "steps_per_block": 3}
    body = {"model": "SmolLM2-135M-Instruct", "prompt": "Once upon a time", "max_tokens": 36, "power": chain}
    return options, body


def drawn(url: str) -> float:
    """Tokens that the engine of this process has drawn."""
    text = ask("GET", f"{url}/metrics").text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return sum(s.value for s in samples if s.name == "vllm:generation_tokens_total")


def run(
    options: Sequence[str], body: dict[str, Any], log: Path, kills: Sequence[float]
) -> tuple[dict[str, Any], float, list[float]]:
    """The answer of a batch of one row, the tokens drawn in all lives, and in each that ended by a kill.

    `kills` are tokens, over all lives together, after which the server is killed.
    """
    server = ServerProcess(options, log)
    lives: list[float] = []
    with server.running(280) as url:
        row = {"custom_id": "one", "method": "POST", "url": "/v1/completions", "body": {"seed": 5, **body}}
        batch = submit(url, [row])
        for tokens in kills:
            before = sum(lives)
            while before + drawn(url) < tokens:
                time.sleep(0.01)
            lives.append(drawn(url))
            server.kill()
            server.start()
            server.wait(240)
        done = finish(url, batch, 240)
        assert done["request_counts"] == {"total": 1, "completed": 1, "failed": 0, "resumed": len(kills)}
        return answers(content(url, done["output_file_id"])), sum(lives) + drawn(url), lives


@pytest.mark.slow
def test_a_chain_killed_three_times_gives_the_same_tokens_and_draws_few_of_them_twice(
    served: tuple[list[str], dict[str, Any]], tmp_path: Path
) -> None:
    options, body = served
    whole, needed, _ = run(options, body, tmp_path / "whole.txt", [])
    resumed, in_all, lives = run(options, body, tmp_path / "resumed.txt", [share * needed for share in (0.3, 0.6, 0.8)])
    (choice,), (wanted,) = resumed["one"][0], whole["one"][0]
    # rows computed anew differ in the last bits of float32, the tokens do not
    assert choice["power"].pop("log_p") == pytest.approx(wanted["power"].pop("log_p"), abs=1e-3)
    assert resumed == whole
    reached = [sum(lives[: i + 1]) for i in range(len(lives))]
    again = sum(reached) + needed
    print(f"\n{needed:.0f} tokens undisturbed, {in_all:.0f} with three kills, {again:.0f} had it begun anew each time")
    assert in_all < 0.6 * again
