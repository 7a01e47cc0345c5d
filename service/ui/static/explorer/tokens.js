/**
 * A trace as text, one element a token. Only what changed since the last time touches the page: a step of a long chain
 * redraws its suffix and no more.
 */

import { el } from "../dom.js";
import { LEVELS, levelOf, valuesOf } from "./measures.js";
import { shownToken } from "./words.js";

/** Characters of a token that are shown in the trace; the rest is shown on demand. */
const SHOWN = 120;

export class TokenView {
  #items = [];
  #indices = new WeakMap();
  #current = -1;

  /**
   * @param {string} label What this text is, for screen readers.
   * @param {Inspector} inspector Shows what is known of a token.
   */
  constructor(label, inspector) {
    this.inspector = inspector;
    this.request = null;
    this.tokens = [];
    this.offset = 0;
    this.isPart = false;
    this.context = [];
    this.element = el("div", {
      class: "tokens",
      role: "group",
      tabindex: "0",
      dir: "auto",
      "aria-label": label,
      on: {
        pointerover: (event) => this.#point(event.target),
        pointerleave: () => inspector.hide(),
        click: (event) => this.#open(event.target),
        keydown: (event) => this.#key(event),
        blur: () => this.#select(-1),
      },
    });
  }

  /**
   * Show tokens.
   *
   * @param {Object} shown `tokens`; `context`, the tokens of the trace before them; `request` of their lane; `measure`;
   *   `cut`, the index to mark as the cut, or −1; `from`, where new tokens begin, or Infinity; `style`, a class of those;
   *   `isPart`, whether the trace would have gone on.
   */
  show({ tokens, context = [], request, measure, cut = -1, from = Infinity, style = "", isPart = false }) {
    const values = valuesOf(measure, [...context, ...tokens], request);
    Object.assign(this, { tokens, context, request, isPart, offset: context.length });
    while (this.#items.length > tokens.length) this.#items.pop().element.remove();
    const fresh = [];
    tokens.forEach((token, i) => {
      const level = levelOf(values[i + this.offset], measure);
      const look = `t h${level ?? "x"}${i === cut ? " cut" : ""}${i >= from ? ` ${style}` : ""}`;
      const item = this.#items[i];
      if (item === undefined) fresh.push(this.#make(token, look, i));
      else this.#update(item, token, look);
    });
    this.element.append(...fresh);
    if (this.#current >= tokens.length) this.#select(-1);
  }

  #make(token, look, i) {
    const element = document.createElement("span");
    this.#indices.set(element, i);
    const item = { element, token: null, look: "" };
    this.#items.push(item);
    this.#update(item, token, look);
    return element;
  }

  #update(item, token, look) {
    if (item.token !== token) {
      const { text, mark, clipped } = shownToken(token, SHOWN);
      item.element.textContent = text;
      item.extra = `${mark ? " mark" : ""}${clipped ? " clipped" : ""}`;
      item.token = token;
      item.look = null;
    }
    if (item.look !== look) {
      item.element.className = look + item.extra;
      item.look = look;
    }
  }

  #indexOf(target) {
    return this.#indices.get(target) ?? -1;
  }

  #point(target) {
    const i = this.#indexOf(target);
    if (i >= 0) this.#inspect(i);
    else this.inspector.hide();
  }

  #open(target) {
    const i = this.#indexOf(target);
    if (i >= 0) this.#inspect(i);
    if (this.tokens[i]?.text?.length > SHOWN) this.inspector.openText(this.tokens[i]);
  }

  #inspect(i) {
    const { request, isPart } = this;
    this.inspector.show([...this.context, ...this.tokens], i + this.offset, { request, isPart }, this.#items[i].element);
  }

  #select(i) {
    this.#items[this.#current]?.element.classList.remove("current");
    this.#current = i;
    const element = this.#items[i]?.element;
    if (element === undefined) return this.inspector.hide();
    element.classList.add("current");
    element.scrollIntoView({ block: "nearest" });
    return this.#inspect(i);
  }

  #key(event) {
    const last = this.tokens.length - 1;
    const at = this.#current;
    const moves = { ArrowRight: Math.min(last, at + 1), ArrowLeft: Math.max(0, at - 1), Home: 0, End: last };
    if (event.key === "Enter" && this.tokens[at]?.text?.length > SHOWN) this.inspector.openText(this.tokens[at]);
    else if (event.key === "Escape") this.#select(-1);
    else if (event.key in moves && last >= 0) this.#select(moves[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the arrows move in this text, not in time
  }
}

/** The ramp, with its ends in words. */
export function legend(measure) {
  const { label, unit, top } = measure;
  const steps = Array.from({ length: LEVELS }, (_, i) => el("span", { class: `t h${i}`, "aria-hidden": "true" }, " "));
  return [el("span", {}, `0`), el("span", { class: "ramp" }, steps), el("span", {}, `${top} ${unit} or more of ${label}`)];
}
