"""What the explorer says of a run: its seed, lost events, several tries, paper mode, characters that are not seen."""

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, expect

from service.ui.saved import page_of
from tests.ui.browsing import Visit
from tests.ui.explorer_page import answer, completion, finish, free_keys, readout, start
from tests.ui.recordings import lane_of, long_recording, open_recording, recording_of
from tests.ui.test_explorer_recording import script
from tests.ui.test_saved_page import saved

SEED = 2**63 - 123
"""A browser's number would make another one of it."""


def test_a_seed_of_64_bits_is_kept_to_its_last_digit(visit: Visit, url: str, tmp_path: Path) -> None:
    page = visit(f"{url}/ui/", accept_downloads=True)
    start(page, seed=SEED)
    finish(page)
    reply = completion(url, seed=SEED)["choices"][0]
    assert reply["power"]["seed"] == SEED
    assert answer(page).replace("<eos>", "") == reply["text"]
    kept = json.loads(saved(page, "JSON", tmp_path).read_text())
    lane = kept["lanes"][0]
    assert [kept["request"]["seed"], lane["request"]["seed"], lane["final"]["choices"][0]["power"]["seed"]] == [
        SEED
    ] * 3
    open_recording(page, kept)
    expect(readout(page)).to_have_text("moment 1 of 28")
    again = saved(page, "HTML", tmp_path)
    assert again.name == f"powercut-entropy_cut-seed-{SEED}.html"
    expect(visit(again.as_uri()).locator("#explorer > p.soft").first).to_contain_text(f"seed {SEED} ·")


def test_a_run_without_a_seed_tells_the_one_that_the_service_used(visit: Visit, url: str, tmp_path: Path) -> None:
    page = visit(f"{url}/ui/", accept_downloads=True)
    start(page, seed="")
    finish(page)
    kept = json.loads(saved(page, "JSON", tmp_path).read_text())
    assert kept["request"]["seed"] == kept["lanes"][0]["final"]["choices"][0]["power"]["seed"]


def test_a_double_click_starts_one_run(visit: Visit, url: str) -> None:
    """Also where the page must first ask what is served, since that had failed."""
    refused: list[str] = []

    def once(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503, body="{}")

    page = visit(f"{url}/ui/", refused=(503,))
    page.route("**/v1/models", once)
    runs: list[str] = []
    page.on("request", lambda request: runs.append(request.url) if request.method == "POST" else None)
    page.reload()
    expect(page.locator(".form > .error")).to_contain_text("The service does not say what it serves")
    page.get_by_role("button", name="Run", exact=True).evaluate("(button) => { button.click(); button.click(); }")
    finish(page)
    assert len(runs) == 1


ENDS = """
    const { Replay } = await load("replay");
    const { sentence } = await load("words");
    const place = { stage: 1, stages: 1, generated_tokens: 2 };
    const extended = (choice) => ({ ...place, choice, type: "extended", ids: [1, 2], finished: false });
    const ended = (index, ids, facts) => ({ index, text: "", power: { token_ids: ids, ...place, ...facts } });
    const choices = [
        ended(0, [1, 2], { ended_by: "completed", dropped: 3 }),
        ended(1, [1, 2], { ended_by: "completed" }),
        ended(2, [1, 7], { ended_by: "completed" }),
        ended(3, [1], { ended_by: "token_budget" }),
    ];
    const lane = { request: { n: 4, power: { method: "entropy_cut" } }, final: { choices } };
    const replay = new Replay(lane);
    for (const choice of [0, 1, 2, 3]) replay.push({ ...extended(choice), dropped: choice === 1 ? 2 : 0 });
    replay.close();
    return replay.chains.map((frames) => [frames.at(-1).gap, sentence(frames.at(-1), lane)]);
"""


def test_events_that_are_lost_at_the_end_are_told_of_their_chain(visit: Visit, url: str) -> None:
    lost, whole, different, limited = script(visit(f"{url}/ui/"), ENDS)
    assert lost == [0, "The last 3 events of this chain did not arrive; this is its answer."]
    assert whole == [2, "The answer was drawn on by 2 tokens."], "lost before, and not at the end"
    assert different == [0, "The last events of this chain did not arrive; this is its answer."]
    assert limited == [0, "The chain was ended here by a limit; this is the answer as it stood."]


def step(**fields: Any) -> dict[str, Any]:
    """A step of a chain of one token."""
    place = {"type": "stepped", "choice": 0, "chain": 0, "stage": 1, "stages": 1, "generated_tokens": 2}
    decided = {"accepted": False, "moved": False, "rejected_early": False, "log_p": -1.0, "length": 1}
    return {**place, "step": 1, "cut": 0, "proposal": [1], "log_ratio": -2.0, "log_u": -0.25, **decided, **fields}


def made_of(*steps: dict[str, Any], **power: Any) -> dict[str, Any]:
    """A recording of one token and these steps."""
    place = {"choice": 0, "chain": 0, "stage": 1, "stages": 1, "generated_tokens": 1}
    lane = lane_of([{"type": "extended", **place, "ids": [0], "finished": True}, *steps], 1, 1, len(steps))
    lane["request"]["power"] |= power
    lane["method"] = lane["request"]["power"]["method"]
    return recording_of(lane)


def test_of_several_tries_the_page_says_which_one_is_shown(visit: Visit, tmp_path: Path) -> None:
    early = step(log_ratio=None, power_term=-3.0, cut_term=0.0, rejected_early=True)
    taken = step(log_ratio=1.5, log_u=1.25, accepted=True, moved=True)
    path = tmp_path / "tries.html"
    path.write_text(page_of(made_of(step(), early, taken, method="multiple_try", tries=3)), encoding="utf-8")
    page = visit(path.as_uri())
    free_keys(page)
    told = []
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        told.append((page.locator(".said").inner_text(), page.locator(".numbers").inner_text().split(" · ")[0]))
    assert told == [
        (
            "Cut before token 1; none of 3 tries won. The closest, of 1 token, is shown.",
            "log r = −2.00 < −0.25, what the closest of 3 tries had to beat",
        ),
        (
            "Cut before token 1; none of 3 tries could win. One, given up after 1 token, is shown.",
            "log r ≤ −3.00 < −0.25, what this one of 3 tries had to beat",
        ),
        (
            "Cut before token 1; the best of 3 tries, a new ending of 1 token, was taken.",
            "log r = 1.50 ≥ 1.25, what the best of 3 tries had to beat",
        ),
    ]


def test_paper_mode_is_said_to_be_no_draw_from_the_target(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "paper.html"
    path.write_text(page_of(made_of(step(), mode="paper")), encoding="utf-8")
    expect(visit(path.as_uri()).locator(".verdict")).to_contain_text("paper mode: not a draw from π")


def test_the_prompt_and_names_show_what_would_not_be_seen(visit: Visit, url: str) -> None:
    made = long_recording(tokens=8, blocks=1, steps=1)
    unseen = "\U000e0041\u034f\u115f\u3164\u202e\u2062\U000e0100"
    made["lanes"][0]["request"]["prompt"] = f"see{unseen}👩‍👩‍👧❤️ می‌خواهم"
    made["lanes"][0]["events"][0]["tokens"] |= {"text": ["", "", *"abcdef"], "names": {"5": "<\u202eeos>"}}
    page = visit(f"{url}/ui/")
    open_recording(page, made, "recorded\u202e.json")
    signs = "".join(f"⟨U+{ord(one):04X}⟩" for one in unseen)
    expect(page.locator(".prompt")).to_have_text(f"Prompt see{signs}👩‍👩‍👧❤️ می‌خواهم")
    assert answer(page).startswith("<⟨U+202E⟩eos>")
    expect(page.locator(".status")).to_contain_text("recorded⟨U+202E⟩.json: a recording")


def inspect(page: Page, i: int) -> str:
    """What is told of token i of the ending that was not taken, or of the answer if there is none."""
    shown = page.locator(".other:not(.none) > .tokens, .panel:has(.other.none) > .tokens").last
    shown.locator(".t").nth(i).hover()
    return page.locator(".inspector").inner_text()


def test_a_token_within_a_character_has_no_name_and_a_part_of_a_trace_only_bounds(visit: Visit, url: str) -> None:
    made = long_recording(tokens=4, blocks=1, steps=1)
    first, decided = made["lanes"][0]["events"]
    first["tokens"] |= {"text": ["a", "", "é", "b"], "names": {"5": "\ufffd"}}
    decided |= {"accepted": False, "moved": False, "rejected_early": True}
    page = visit(f"{url}/ui/")
    open_recording(page, made)
    assert answer(page) == "a·éb"
    assert "part of a character" in inspect(page, 1)
    assert "at most" not in inspect(page, 1)
    free_keys(page)
    page.keyboard.press("End")
    assert "at most" in inspect(page, 0), "more tokens would only add to the sum of the weights"


def test_in_paper_mode_any_position_is_cut_where_none_has_weight(visit: Visit, url: str) -> None:
    body = """
        const { cutLaw } = await load("measures");
        const flat = [{ entropy: 0 }, { entropy: 0 }, { entropy: 0 }, { entropy: 0 }];
        return ["paper", "exact"].map((mode) => cutLaw(flat, { power: { method: "entropy_cut", mode } }));
    """
    assert script(visit(f"{url}/ui/"), body) == [[0.25] * 4, [0] * 4]
