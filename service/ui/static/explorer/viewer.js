/** A recording on the page: timeline, chains side by side, pictures. The same for a live run, a file, and a saved page. */

import { el, fill } from "../dom.js";
import { Acceptance, Cuts, LogPi } from "./figures.js";
import { Inspector } from "./inspector.js";
import { MEASURES } from "./measures.js";
import { Panel } from "./panel.js";
import { Replay } from "./replay.js";
import { Strip } from "./strip.js";
import { Timeline } from "./timeline.js";
import { legend } from "./tokens.js";
import { verdict } from "./verdict.js";
import { chainName, sentence, visible } from "./words.js";

export class Viewer {
  #scheduled = false;
  #dirty = false;

  /** @param {function(string)} announce Says something to screen readers. */
  constructor(announce) {
    this.announce = announce;
    this.recording = null;
    this.replays = [];
    this.chains = [];
    this.measure = "entropy";
    this.inspector = new Inspector();
    this.timeline = new Timeline((_, chosen) => this.#moved(chosen));
    this.strip = new Strip((moment) => this.timeline.go(moment));
    this.figures = { logPi: new LogPi(), acceptance: new Acceptance(), cuts: new Cuts() };
    this.prompt = el("p", { class: "prompt", dir: "auto" });
    this.panels = el("div", { class: "panels" });
    this.verdicts = el("div", { class: "stack" });
    this.legend = el("div", { class: "legend" });
    this.select = el(
      "select",
      { id: "measure", on: { change: () => this.#colour(this.select.value) } },
      Object.entries(MEASURES).map(([name, { label }]) => el("option", { value: name }, label)),
    );
    const colours = el("div", { class: "row colours" }, el("label", { for: "measure" }, "Colour tokens by"), this.select, this.legend);
    this.element = el(
      "div",
      { class: "viewer stack", hidden: true },
      el("div", { class: "card time" }, this.strip.element, this.timeline.element, colours),
      this.prompt,
      this.panels,
      this.verdicts,
      el("div", { class: "figures" }, Object.values(this.figures).map((figure) => figure.element)),
      this.inspector.element,
    );
    document.addEventListener("keydown", (event) => this.recording && this.timeline.key(event));
    document.addEventListener("scroll", () => this.inspector.move(), { passive: true, capture: true });
    this.#colour("entropy");
  }

  /** Show a recording; `atStart` begins at its first moment instead of its last. If it throws, all is as before. */
  open(recording, { atStart = false } = {}) {
    const { moment, last, follow } = this.timeline;
    const shown = { recording: this.recording, replays: this.replays, chains: this.chains };
    const at = { moment, last, follows: follow.checked, hidden: this.element.hidden };
    const replays = recording.lanes.map(replayOf);
    try {
      this.#put({ recording, replays, chains: this.#chainsOf(replays) }, { moment: 0, last: 0, follows: !atStart });
    } catch (error) {
      if (shown.recording === null) this.#clear();
      else this.#put(shown, at);
      throw error;
    }
  }

  #chainsOf(replays) {
    return replays.flatMap(({ lane, chains }) =>
      chains.map((frames, choice) => ({ lane, choice, frames, panel: new Panel(lane, choice, this.inspector) })),
    );
  }

  #put(shown, { moment, last, follows, hidden = false }) {
    Object.assign(this, shown);
    this.timeline.pause();
    fill(this.panels, this.chains.map(({ panel }) => panel.element));
    this.panels.dataset.count = this.chains.length;
    fill(this.prompt, el("b", {}, "Prompt "), el("span", {}, visible(this.recording.lanes[0].request.prompt)));
    this.element.hidden = hidden;
    Object.assign(this.timeline, { moment, last });
    this.timeline.follow.checked = follows;
    this.render();
    this.timeline.slider.value = this.timeline.moment;
  }

  #clear() {
    Object.assign(this, { recording: null, replays: [], chains: [] });
    this.element.hidden = true;
  }

  /** Whether events may still come. */
  get isLive() {
    return this.recording.lanes.some((lane) => lane.status === "running");
  }

  /** Take an event that has been added to a lane. The page follows with its next frame. */
  push(lane, event) {
    this.replays[lane].push(event);
    this.#later();
  }

  /** A lane has ended, however it did. */
  close(lane) {
    this.replays[lane].close();
    this.#later();
  }

  /** Bring the page up to date now. */
  render() {
    this.#dirty = false;
    const moments = Math.max(0, ...this.replays.map((replay) => replay.moments));
    this.strip.update(this.chains);
    for (const figure of Object.values(this.figures)) figure.update(this.chains);
    fill(this.verdicts, this.recording.lanes.map((lane) => verdict(lane)));
    this.timeline.extend(moments - 1, this.isLive);
    this.#show();
  }

  #later() {
    this.#dirty = true;
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      if (this.#dirty) this.render();
    });
  }

  #moved(chosen) {
    if (!this.recording) return;
    this.#show();
    if (chosen) this.announce(this.#inWords());
  }

  #show() {
    const { moment } = this.timeline;
    this.inspector.hide();
    for (const { panel, frames } of this.chains) panel.show(frames[Math.min(moment, frames.length - 1)], this.measure);
    this.strip.mark(moment);
    this.figures.logPi.mark(moment);
  }

  #inWords() {
    const { moment, last } = this.timeline;
    const said = this.chains.slice(0, 2).map(({ lane, choice, frames }) => {
      const frame = frames[Math.min(moment, frames.length - 1)];
      return frame ? `${this.chains.length > 1 ? `${chainName(lane, choice)}: ` : ""}${sentence(frame, lane)}` : "";
    });
    return `Moment ${moment + 1} of ${last + 1}. ${said.join(" ")}`;
  }

  #colour(measure) {
    this.measure = measure;
    fill(this.legend, legend(MEASURES[measure]));
    if (this.recording) this.#show();
  }
}

function replayOf(lane) {
  const replay = new Replay(lane);
  for (const event of lane.events) replay.push(event);
  if (lane.status !== "running") replay.close();
  return replay;
}
