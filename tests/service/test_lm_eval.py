"""lm-evaluation-harness, its real client and unchanged, scores tasks over this service's routes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sampler.engine import Support
from sampler.engines.tabular import TabularEngine, from_table
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import letters_table

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed beside vLLM")
from lm_eval.tasks import TaskManager  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # of its own code and of what it imports
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::UserWarning"),
    pytest.mark.filterwarnings("default::ResourceWarning"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]

QUESTIONS = 12

GENERATE = """
task: letters_generate
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["b"]
  max_gen_toks: 4
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""

CHOICE = """
task: letters_choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def task(folder: Path, yaml: str, questions: list[dict[str, Any]]) -> TaskManager:
    """A task in a folder: its YAML and its questions."""
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in questions))
    (folder / "task.yaml").write_text(yaml.format(data=data))
    return TaskManager(include_path=str(folder), include_defaults=False)


@contextmanager
def letters() -> Iterator[tuple[str, TabularEngine]]:
    """A served table, and the same table to compute with."""
    with serving(FaultyEngine(letters_table())) as url:
        yield url, from_table(letters_table())


def evaluate(url: str, manager: TaskManager, name: str, model_args: str, **options: Any) -> dict[str, Any]:
    """The results of a task, as the command line would give them."""
    found = lm_eval.simple_evaluate(
        model="local-completions",
        model_args=f"base_url={url}/v1/completions,{model_args}",
        tasks=[name],
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
        random_seed=0,
        **options,
    )
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is fetched, and caches are the test's own."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("method", ["letters", "letters:entropy_cut"])
def test_a_generation_task_is_scored_by_its_answers(tmp_path: Path, method: str) -> None:
    """Right where the answer is the text that the model's draw at that seed has before the stop string."""
    questions = [{"question": f"question {i}", "answer": "a" * (i % 3)} for i in range(QUESTIONS)]
    with letters() as (url, _):
        found = evaluate(
            url,
            task(tmp_path, GENERATE, questions),
            "letters_generate",
            f"model={method},tokenizer_backend=None,tokenized_requests=False",
            gen_kwargs="temperature=0.25",
        )
    samples = found["samples"]["letters_generate"]
    assert len(samples) == QUESTIONS
    answers = [sample["resps"][0][0] for sample in samples]
    assert all(set(answer) <= {"a"} for answer in answers), "the stop string was honoured"
    right = sum(answer == sample["doc"]["answer"] for answer, sample in zip(answers, samples, strict=True))
    assert found["results"]["letters_generate"]["exact_match,none"] == pytest.approx(right / QUESTIONS)


def log_likelihood(engine: TabularEngine, ids: list[int], start: int) -> float:
    """log p of ids[start:], from the table; the served engine scores all but the first id as a response."""
    total = 0.0
    for end in range(start, len(ids)):
        row = engine.row(tuple(ids[1:end]), 1.0, Support())
        total += row.log_p(int(np.flatnonzero(row.ids == ids[end])[0]))
    return total


@pytest.mark.parametrize("requests", ["tokenized_requests=True", "tokenized_requests=True,num_concurrent=4"])
def test_a_log_likelihood_task_is_scored_by_the_models_own_numbers(tmp_path: Path, requests: str) -> None:
    """Through `echo` and `logprobs` with the tokenizer that the service itself offers."""
    choices = ["a", "bb", "aba"]
    questions = [{"question": "ab" * (1 + i % 2), "choices": choices, "label": i % 3} for i in range(QUESTIONS)]
    with letters() as (url, engine):
        found = evaluate(
            url, task(tmp_path, CHOICE, questions), "letters_choice", f"model=letters,tokenizer_backend=auto,{requests}"
        )
    right = 0
    for sample in found["samples"]["letters_choice"]:
        question = engine.tokenizer.encode(sample["doc"]["question"])
        wanted = [log_likelihood(engine, question + engine.tokenizer.encode(c), len(question)) for c in choices]
        given = [response[0][0] for response in sample["resps"]]
        assert given == pytest.approx(wanted, abs=1e-9)
        right += int(np.argmax(wanted)) == sample["doc"]["label"]
    assert found["results"]["letters_choice"]["acc,none"] == pytest.approx(right / QUESTIONS)
    assert 0 < right < QUESTIONS
