/** The chain explorer's page: the form, a run or a file, and what can be done with it. */

import { byId, el, fill } from "../dom.js";
import { callJson, models } from "../session.js";
import { BadRecording } from "./checks.js";
import { FieldError, boundsOf } from "./fields.js";
import { download, fileName, onDrop, read, savedPage } from "./files.js";
import { Form } from "./form.js";
import { callPage } from "./page.js";
import { chainsOf, newRecording, toJson } from "./recording.js";
import { Run, repeats } from "./run.js";
import { Viewer } from "./viewer.js";
import { count, visible } from "./words.js";

class Explorer {
  #run = null;
  #model = null;
  #isStarting = false;

  constructor() {
    this.form = new Form({ run: () => this.start(), stop: () => this.#run?.stop(), open: (file) => this.open(file) });
    this.live = byId("live");
    this.viewer = new Viewer((text) => this.say(text));
    this.status = el("div", { class: "card status", hidden: true });
    byId("explorer").append(this.form.element, this.status, this.viewer.element);
    onDrop((file) => this.open(file));
  }

  /** What the service says of itself: its model, and the bounds of the fields. */
  async meet() {
    try {
      this.#model = (await models())[0].id;
      this.form.bound(boundsOf(await callJson("openapi.json")));
      byId("model").textContent = this.#model;
      callPage().catch(() => {}); // a run can then be saved though the service be gone
    } catch (error) {
      this.form.say(`The service does not say what it serves: ${error.message}.`);
    }
  }

  /** Run what the form says, or `requests` again; `before` is the recording that they repeat. */
  async start(requests = null, before = null) {
    if (this.#isStarting || this.#run !== null) return; // a double click
    this.form.clear();
    if (!(await this.#hasMet())) return;
    const asked = requests ?? this.#requests();
    if (asked === null) return;
    const recording = newRecording(this.#model, asked, new Date().toISOString());
    const run = (this.#run = new Run(recording, this.viewer));
    this.viewer.open(recording);
    this.form.busy(true);
    this.#tell("Running. Each step appears as it is decided.");
    await run.finish();
    if (this.#run !== run) return; // the reader has opened a file meanwhile
    this.#run = null;
    this.form.busy(false);
    this.viewer.render();
    if (run.error !== null) this.#refused(run.error, recording);
    else this.#ended(recording, before);
  }

  /** Whether the service has said what it serves; asks it again if it has not. */
  async #hasMet() {
    if (this.#model !== null) return true;
    this.#isStarting = true;
    await this.meet();
    this.#isStarting = false;
    return this.#model !== null;
  }

  /** Show a recording out of a file; if it cannot be shown, all stays as it was. */
  async open(file) {
    this.form.clear();
    try {
      const recording = await read(file);
      this.viewer.open(recording, { atStart: true });
      this.#leave();
      this.#tell(`${file.name}: a recording of ${recording.model}, ${this.#steps(recording)}.`, recording);
    } catch (error) {
      const said = error instanceof BadRecording ? error.message : `${file.name} cannot be shown: ${error.message}`;
      this.form.say(visible(said));
    }
  }

  #leave() {
    this.#run?.stop();
    this.#run = null;
    this.form.busy(false);
  }

  say(text) {
    this.live.textContent = text;
  }

  #requests() {
    try {
      return this.form.requests(this.#model);
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      this.form.blame(error);
      return null;
    }
  }

  #refused(error, recording) {
    this.form.blame(error);
    if (recording.lanes.every((lane) => lane.events.length === 0)) {
      this.status.hidden = true;
      this.viewer.element.hidden = true;
    } else this.#tell(`The service could not go on: ${error.message}.`, recording, "bad");
  }

  #ended(recording, before) {
    const statuses = recording.lanes.map((lane) => lane.status);
    if (statuses.includes("dropped")) return this.#dropped(recording);
    if (statuses.includes("stopped")) return this.#tell(`Stopped, after ${this.#steps(recording)}.`, recording, "warn");
    return this.#tell(`Finished: ${this.#steps(recording)}.${before ? this.#compared(before, recording) : ""}`, recording, "good");
  }

  #dropped(recording) {
    const said = `The connection was lost: the service told ${this.#steps(recording)}, and the end is missing. `;
    const { seed } = recording.request;
    const again = el("button", { type: "button", on: { click: () => this.start(recording.lanes.map((lane) => lane.request), recording) } }, "Run again with the same seed");
    this.#tell(`${said}What arrived is below. A run cannot be picked up in its middle, but seed ${seed} makes the same chain again.`, recording, "bad", again);
  }

  #compared(before, recording) {
    const { compared, same } = repeats(before, recording);
    if (compared === 0) return "";
    return same ? ` The first ${count(compared, "event")} are those that had arrived before.` : " It differs from what had arrived before: this engine does not replay a seed.";
  }

  #steps(recording) {
    const steps = recording.lanes.map((lane) => lane.events.filter((event) => event.type !== "extended").length);
    const chains = recording.lanes.reduce((all, lane) => all + chainsOf(lane), 0);
    return `${count(steps.reduce((all, each) => all + each, 0), "step")} of ${count(chains, "chain")}`;
  }

  #tell(message, recording = null, look = "", ...buttons) {
    const saves = recording === null ? [] : [this.#saveButton("Save as HTML", "html", recording), this.#saveButton("Save as JSON", "json", recording)];
    this.status.hidden = false;
    fill(this.status, el("p", { class: `notice ${look}` }, visible(message)), el("div", { class: "row" }, buttons, saves));
    this.say(message);
  }

  #saveButton(word, ending, recording) {
    return el("button", { type: "button", on: { click: () => this.#save(ending, recording) } }, word);
  }

  async #save(ending, recording) {
    try {
      const text = ending === "html" ? await savedPage(recording) : toJson(recording);
      download(text, fileName(recording, ending), ending === "html" ? "text/html" : "application/json");
      this.say(`Saved as ${fileName(recording, ending)}.`);
    } catch (error) {
      this.form.say(`It could not be saved: ${error.message}. JSON needs no service.`);
    }
  }
}

const explorer = new Explorer();
await explorer.meet();
