/** What is known of one token, beside the token; and the whole text of a long one in a dialog. */

import { el, fill } from "../dom.js";
import { cutLaw, jumpOf } from "./measures.js";
import { count, head, number, visible } from "./words.js";

const PREVIEW = 60;
const MARGIN = 8;

export class Inspector {
  constructor() {
    this.element = el("div", { class: "inspector", role: "status", hidden: true });
    this.beside = this.element;
  }

  /** Show token i of a trace beside an element; `of` has the `request`, and `isPart`, whether the trace would go on. */
  show(tokens, i, of, beside) {
    fill(this.element, this.#facts(tokens, i, of));
    this.element.hidden = false;
    this.beside = beside;
    this.#place(beside);
  }

  /** Stay beside the token, which has moved with the page. */
  move() {
    if (!this.element.hidden) this.#place(this.beside);
  }

  hide() {
    this.element.hidden = true;
  }

  /** The whole text of a token, control characters made visible. */
  openText(token) {
    const close = el("button", { type: "button", on: { click: () => dialog.close() } }, "Close");
    const text = el("pre", { class: "whole", tabindex: "0", dir: "auto" }, visible(token.text));
    const title = el("h2", { id: "whole-title" }, `Token ${token.id}, ${count(token.text.length, "character")}`);
    const dialog = el("dialog", { class: "text", "aria-labelledby": "whole-title" }, title, text, close);
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  #facts(tokens, i, { request, isPart }) {
    const token = tokens[i];
    const law = cutLaw(tokens, request);
    const rows = [
      ["entropy", `${number(token.entropy, 3)} nats`],
      ["jump Δ", `${number(jumpOf(tokens, i), 3)} nats`],
      ["log p", `${number(token.logP, 3)} nats`],
      ["cut here", law === null ? "–" : `${isPart ? "at most " : ""}${number(100 * law[i], law[i] < 0.1 ? 2 : 0)} %`],
    ];
    return [
      el("p", {}, el("b", {}, `token ${i + 1}`), ` · id ${token.id ?? "unknown"}`),
      el("p", { class: "escaped" }, escaped(token)),
      el("dl", {}, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), " ", el("dd", {}, value)))),
      token.text !== null && token.text.length > PREVIEW ? el("p", { class: "soft" }, "Enter or click: the whole text") : null,
    ];
  }

  #place(beside) {
    const at = beside.getClientRects()[0];
    if (at === undefined) return;
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const left = Math.min(Math.max(MARGIN, at.left), Math.max(MARGIN, document.documentElement.clientWidth - width - MARGIN));
    const below = at.bottom + MARGIN;
    const fits = below + height < window.innerHeight;
    this.element.style.left = `${left}px`;
    this.element.style.top = `${fits ? below : Math.max(MARGIN, at.top - height - MARGIN)}px`;
  }
}

/** A token's text as JavaScript would write it, its beginning if it is long. */
function escaped(token) {
  if (token.text === null) return "text not known";
  if (token.text === "") return token.name === null ? "part of a character" : `${visible(token.name)} (adds no text)`;
  const shown = visible(JSON.stringify(head(token.text, PREVIEW)));
  return token.text.length > PREVIEW ? `${shown}… ${count(token.text.length, "character")}` : shown;
}
