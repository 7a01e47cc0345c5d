/** The form: what to run. Errors of the service stand at the field they name. */

import { el } from "../dom.js";
import { FIELDS, requestOf } from "./fields.js";
import { METHODS } from "./words.js";

const COMPARED = ["entropy_cut", "uniform_cut"];
const PROMPT = "The capital of France is";

export class Form {
  /** @param {{run: function(), stop: function(), open: function(File)}} on What the buttons do. */
  constructor(on) {
    this.inputs = new Map();
    this.errors = new Map();
    this.prompt = el("textarea", { id: "prompt", rows: 3, dir: "auto", spellcheck: "false" }, PROMPT);
    this.method = el("select", { id: "power.method", on: { change: () => this.#fit() } }, Object.entries(METHODS).map(([name, word]) => el("option", { value: name }, word)));
    this.early = el("input", { type: "checkbox", id: "early", checked: true });
    this.compare = el("input", { type: "checkbox", id: "compare", on: { change: () => this.#fit() } });
    this.general = el("p", { class: "error", role: "alert" });
    this.go = el("button", { type: "submit", class: "primary" }, "Run");
    this.halt = el("button", { type: "button", disabled: true, on: { click: on.stop } }, "Stop");
    this.file = el("input", { type: "file", id: "file", accept: ".json,application/json", class: "visually-hidden", on: { change: () => this.#chosen(on.open) } });
    this.element = this.#build();
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.go.disabled) on.run();
    });
    this.#fit();
  }

  /** The requests as the form stands: one, or two to compare. */
  requests(model) {
    const values = Object.fromEntries([...this.inputs].map(([path, input]) => [path, input.value]));
    const methods = this.compare.checked ? COMPARED : [this.method.value];
    const first = requestOf(model, methods[0], this.prompt.value, values, this.early.checked);
    const others = methods.slice(1).map((method) => requestOf(model, method, this.prompt.value, values, this.early.checked));
    return [first, ...others.map((request) => ({ ...request, seed: first.seed }))];
  }

  /** Let the fields know what the service allows. */
  bound(bounds) {
    for (const field of FIELDS) {
      const { least = field.least, most = field.most } = { ...bounds[field.path], ...(field.path === "seed" ? { least: undefined, most: undefined } : {}) };
      const input = this.inputs.get(field.path);
      if (least !== undefined) input.min = least;
      if (most !== undefined) input.max = most;
      const range = least !== undefined && most !== undefined && field.path !== "seed" ? (most < 1e5 ? `${least}–${most.toLocaleString("en")}; ` : `${least} or more; `) : "";
      document.getElementById(`${field.path}-hint`).textContent = range + field.hint;
    }
  }

  /** Show an error at the field it names, or below the buttons. */
  blame(error) {
    const place = this.errors.get(error.param ?? "") ?? this.general;
    place.textContent = error.message;
    const input = error.param === "prompt" ? this.prompt : this.inputs.get(error.param) ?? (error.param === "power.method" ? this.method : null);
    input?.setAttribute("aria-invalid", "true");
    (input ?? this.go).focus();
  }

  /** Show a message below the buttons. */
  say(message) {
    this.general.textContent = message;
  }

  clear() {
    for (const place of [...this.errors.values(), this.general]) place.textContent = "";
    for (const input of [this.prompt, this.method, ...this.inputs.values()]) input.removeAttribute("aria-invalid");
  }

  /** Whether a run is on. */
  busy(is) {
    this.go.disabled = is;
    this.halt.disabled = !is;
  }

  #fit() {
    const methods = this.compare.checked ? COMPARED : [this.method.value];
    this.method.disabled = this.compare.checked;
    for (const { path, methods: of } of FIELDS) {
      this.inputs.get(path).closest(".field").hidden = of !== undefined && !methods.some((method) => of.includes(method));
    }
  }

  #build() {
    const numbers = FIELDS.map((field) => this.#number(field));
    const method = this.#field("power.method", "Method", this.method, "where and how a step redraws");
    return el(
      "form",
      { class: "card form", novalidate: true, "aria-label": "What to run" },
      this.#field("prompt", "Prompt", this.prompt, ""),
      el("div", { class: "fields" }, method, numbers),
      el(
        "div",
        { class: "row checks" },
        el("label", { class: "check", for: "compare" }, this.compare, " Compare entropy cut and uniform cut on the same seed"),
        el("label", { class: "check", for: "early" }, this.early, " Early rejection"),
      ),
      el("div", { class: "row" }, this.go, this.halt, el("label", { class: "button", for: "file" }, "Open a recording…"), this.file),
      this.general,
    );
  }

  #number({ path, label, value, step = "1", hint }) {
    const input = el("input", { id: path, type: "number", step, value, inputmode: step === "any" ? "decimal" : "numeric" });
    this.inputs.set(path, input);
    return this.#field(path, label, input, hint);
  }

  #field(path, label, input, hint) {
    const error = el("p", { id: `${path}-error`, class: "error", role: "alert" });
    this.errors.set(path, error);
    input.setAttribute("aria-describedby", `${path}-hint ${path}-error`);
    return el("div", { class: "field" }, el("label", { for: path }, label), input, el("small", { id: `${path}-hint` }, hint), error);
  }

  #chosen(open) {
    const [file] = this.file.files;
    this.file.value = ""; // so that the same file can be chosen again
    if (file !== undefined) open(file);
  }
}
