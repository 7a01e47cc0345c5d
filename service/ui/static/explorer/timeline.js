/** Moving in time: buttons, a slider, keys, play, and following a run while it happens. */

import { el, fill, svg } from "../dom.js";

const PLAY_MS = 700;
/** Signs as drawings: not every machine has letters for them. */
const SIGNS = {
  first: "M4 3h2v10H4zM14 3v10L7 8z",
  back: "M12 3v10L5 8z",
  play: "M4 3v10l9-5z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  on: "M4 3v10l7-5z",
  last: "M10 3h2v10h-2zM2 3v10l7-5z",
};

export class Timeline {
  #timer = null;

  /** @param {function(number, boolean)} onMove Told of each new moment, and whether the reader chose it. */
  constructor(onMove) {
    this.onMove = onMove;
    this.moment = 0;
    this.last = 0;
    this.slider = el("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Moment of the run", on: { input: () => this.go(Number(this.slider.value)) } });
    this.readout = el("output", { class: "readout" });
    this.play = this.#button("play", "Play", () => this.toggle());
    this.follow = el("input", { type: "checkbox", id: "follow", checked: true, on: { change: () => this.follow.checked && this.go(this.last) } });
    this.buttons = [
      this.#button("first", "First moment", () => this.go(0)),
      this.#button("back", "One step back", () => this.go(this.moment - 1)),
      this.play,
      this.#button("on", "One step on", () => this.go(this.moment + 1)),
      this.#button("last", "Last moment", () => this.go(this.last)),
    ];
    this.followLabel = el("label", { class: "check", for: "follow" }, this.follow, " Follow live");
    this.element = el(
      "div",
      { class: "timeline", role: "group", "aria-label": "Timeline. Arrow keys step, Home and End jump, space plays." },
      el("div", { class: "buttons" }, this.buttons),
      this.slider,
      this.readout,
      this.followLabel,
    );
  }

  /** There are moments 0 to `last` now; while following, go to the last. `live`: more may come. */
  extend(last, live) {
    this.last = Math.max(0, last);
    this.slider.max = this.last;
    this.followLabel.hidden = !live;
    if (this.follow.checked && this.#timer === null) this.#set(this.last, false);
    this.#tell();
  }

  /** Go to a moment because the reader wants it; following ends unless it is the last. */
  go(moment) {
    const to = Math.min(this.last, Math.max(0, moment));
    this.follow.checked = to === this.last;
    this.#set(to, true);
  }

  toggle() {
    if (this.#timer !== null) return this.pause();
    if (this.moment === this.last) this.#set(0, true);
    this.follow.checked = false;
    this.#timer = setInterval(() => (this.moment < this.last ? this.#set(this.moment + 1, true) : this.pause()), PLAY_MS);
    this.#playShows("pause", "Pause");
    return undefined;
  }

  pause() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#playShows("play", "Play");
  }

  /** Keys of the whole page, unless the reader is writing or choosing something. */
  key(event) {
    const busy = event.target instanceof Element && event.target.closest("input, textarea, select, button, summary, dialog, a");
    if (event.altKey || event.ctrlKey || event.metaKey || (busy && event.target !== this.slider)) return;
    const moves = { ArrowLeft: this.moment - 1, ArrowRight: this.moment + 1, Home: 0, End: this.last };
    if (event.key === " ") this.toggle();
    else if (event.key in moves) this.go(moves[event.key]);
    else return;
    event.preventDefault();
  }

  #set(moment, chosen) {
    const changed = moment !== this.moment;
    this.moment = moment;
    this.slider.value = moment;
    this.#tell();
    if (changed) this.onMove(moment, chosen);
  }

  #tell() {
    this.readout.textContent = `moment ${this.moment + 1} of ${this.last + 1}`;
    this.slider.setAttribute("aria-valuetext", this.readout.textContent);
  }

  #button(sign, name, action) {
    return el("button", { type: "button", class: "sign", "aria-label": name, title: name, on: { click: action } }, drawn(sign));
  }

  #playShows(sign, name) {
    fill(this.play, drawn(sign));
    this.play.setAttribute("aria-label", name);
    this.play.title = name;
  }
}

function drawn(sign) {
  return svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: SIGNS[sign] }));
}
