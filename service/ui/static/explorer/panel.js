/** One chain at one moment: its answer, what the step drew, and how it was decided. */

import { el, fill } from "../dom.js";
import { outcomeOf } from "./replay.js";
import { TokenView } from "./tokens.js";
import { OUTCOMES, chainName, count, decision, number, placeOf, sentence } from "./words.js";

/** In how many milliseconds an ending that was not taken fades. How far is in the style: it stays readable. */
const FADING_MS = 1500;

export class Panel {
  #shown = null;

  constructor(lane, choice, inspector) {
    this.lane = lane;
    const name = chainName(lane, choice);
    this.answer = new TokenView(`${name}: the answer. Arrow keys go from token to token.`, inspector);
    this.other = new TokenView(`${name}: the ending that was not taken. Arrow keys go from token to token.`, inspector);
    this.badge = el("span", { class: "badge" });
    this.place = el("span", { class: "soft" });
    this.said = el("p", { class: "said" });
    this.numbers = el("p", { class: "numbers" });
    this.title = el("h4", {});
    this.stop = el("p", { class: "stop" });
    this.notTaken = el("div", { class: "other" }, this.title, this.other.element, this.stop);
    this.note = el("p", { class: "notice warn", hidden: true });
    this.element = el(
      "section",
      { class: "card panel", "aria-label": name },
      el("header", { class: "row" }, el("h3", {}, name), this.badge, this.place),
      this.said,
      this.note,
      this.answer.element,
      this.notTaken,
      this.numbers,
    );
  }

  /** Show a frame; `measure` is what tokens are coloured by. */
  show(frame, measure) {
    if (frame === undefined) return this.#wait();
    if (this.#shown?.frame === frame && this.#shown.measure === measure) return undefined;
    this.#shown = { frame, measure };
    const outcome = outcomeOf(frame);
    this.badge.className = `badge ${outcome}`;
    fill(this.badge, el("span", { "aria-hidden": "true" }, OUTCOMES[outcome].glyph), ` ${OUTCOMES[outcome].word}`);
    this.place.textContent = placeOf(frame);
    this.said.textContent = sentence(frame, this.lane);
    this.numbers.textContent = this.#facts(frame).join(" · ");
    this.note.hidden = frame.gap === 0;
    if (frame.gap) this.note.textContent = `${count(frame.gap, "event")} were lost on the way here: the tokens below may be wrong.`;
    this.#tokens(frame, outcome, measure);
    return undefined;
  }

  #wait() {
    this.badge.className = "badge";
    this.badge.textContent = "waiting";
    this.place.textContent = "";
    this.said.textContent = this.lane.status === "running" ? "No step has arrived yet." : "No step has arrived.";
    this.notTaken.className = "other none";
  }

  /** As one element: thousands of tokens that fade each by itself would stop the page. */
  #fade() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const { element } = this.other;
    for (const running of element.getAnimations()) running.cancel();
    element.animate([{ opacity: 1 }, {}], { duration: FADING_MS, easing: "ease-in" });
  }

  #facts(frame) {
    const length = count(frame.after.length, "token");
    const log = `log p = ${number(frame.logP)}`;
    return [decision(frame, this.lane), log, length, `${count(frame.drawn, "token")} drawn so far`].filter(Boolean);
  }

  #tokens(frame, outcome, measure) {
    const { request } = this.lane;
    const isNew = ["accepted", "extended", "ended"].includes(outcome);
    const cut = frame.cut !== null && outcome !== "extended" && outcome !== "ended" ? frame.cut : -1;
    const from = isNew || outcome === "same" ? frame.cut : Infinity;
    this.answer.show({ tokens: frame.after, request, measure, cut, from, style: `new ${outcome}` });
    const lost = outcome === "accepted" ? frame.before.slice(frame.cut) : frame.proposal;
    const shows = ["accepted", "rejected", "early"].includes(outcome) && lost.length > 0;
    if (!shows) {
      this.notTaken.className = "other none";
      return;
    }
    this.notTaken.className = `other ${outcome}`;
    this.title.textContent = titleOf(outcome, request);
    const context = (outcome === "accepted" ? frame.before : frame.after).slice(0, frame.cut);
    const isPart = outcome === "early";
    this.other.show({ tokens: lost, context, request, measure, cut: 0, from: 0, style: `lost ${outcome}`, isPart });
    this.#fade();
    this.stop.hidden = outcome !== "early";
    if (outcome === "early") this.stop.textContent = `⊣ stopped here, after ${count(lost.length, "token")}`;
  }
}

const TITLES = {
  accepted: "The ending it replaced",
  rejected: "The new ending, rejected",
  early: "The new ending, given up early",
};
const TITLES_OF_TRIES = { ...TITLES, rejected: "The closest try, rejected", early: "A try, given up early" };

function titleOf(outcome, request) {
  return (request.power.method === "multiple_try" ? TITLES_OF_TRIES : TITLES)[outcome];
}
