/** One analysis on the page: its request as text, the run, and what came of it. */

import { copyText } from "../copying.js";
import { byId, el, fill } from "../dom.js";
import { fieldList, resolved } from "../fields.js";
import { call, callJson, hasKey, urlOf } from "../session.js";
import { parse, placeOf, pretty, withField } from "./json.js";
import { pngTexts } from "./png.js";
import { replyView } from "./reply.js";
import { snippets } from "./snippets.js";

/** Fields of a reply that, sent along, make the picture the same run's. */
const SAME_RUN = ["seed", "release_id"];
/** Why a run ends of which nobody wants to hear any more. */
const LEFT = new DOMException("another analysis was chosen", "AbortError");

export class Bench {
  #analysis = null;
  #aborter = null;
  #urls = [];
  #form = 0;
  #document = null;
  #properties = new Set();

  constructor() {
    byId("run").addEventListener("click", () => this.#run());
    byId("cancel").addEventListener("click", () => this.#aborter?.abort());
    byId("reset").addEventListener("click", () => this.#reset());
    byId("copy").addEventListener("click", () => this.#copy());
    byId("request").addEventListener("input", () => this.#changed());
    byId("request").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#run();
    });
  }

  /** Show an analysis of the list with its example, and stop what ran before. */
  show(analysis) {
    this.#aborter?.abort(LEFT);
    this.#analysis = analysis;
    this.#form = 0;
    byId("bench").hidden = false;
    byId("name").textContent = analysis.name;
    byId("summary").textContent = `${analysis.summary}.`;
    const paper = byId("paper");
    paper.textContent = analysis.paper.title;
    paper.href = `https://arxiv.org/abs/${analysis.paper.arxiv}`;
    byId("job-only").hidden = !analysis.job_only;
    byId("bench").classList.toggle("alone", analysis.job_only);
    for (const id of ["run", "run-hint", "view"]) byId(id).hidden = analysis.job_only;
    this.#properties = new Set();
    this.#reset();
    this.#say("");
    this.#fields(analysis);
  }

  #reset() {
    byId("request").value = pretty(this.#analysis.example);
    this.#forget();
    this.#changed();
  }

  /** The request was changed: what complained of the old one goes, and the calls are written anew. */
  #changed() {
    this.#complain("");
    const lines = byId("request").value.split("\n").length;
    byId("request").rows = Math.min(24, Math.max(8, lines + 1));
    this.#calls();
  }

  #calls() {
    const text = byId("request").value;
    const forms = fault(text) === null ? snippets(this.#facts(text)) : [];
    byId("no-call").hidden = forms.length > 0;
    byId("call").hidden = forms.length === 0;
    if (forms.length === 0) return;
    this.#form = Math.min(this.#form, forms.length - 1);
    fill(
      byId("forms"),
      forms.map(({ label }, at) => {
        const input = el("input", { type: "radio", name: "form", value: at, checked: at === this.#form });
        input.addEventListener("change", () => {
          this.#form = at;
          byId("snippet").textContent = forms[at].text;
          byId("copied").textContent = "";
        });
        return el("label", {}, input, " ", label);
      }),
    );
    byId("snippet").textContent = forms[this.#form].text;
    byId("copied").textContent = "";
  }

  #facts(body) {
    const { name, path, job_only: jobOnly } = this.#analysis;
    const given = parse(body);
    const again = SAME_RUN.filter((field) => this.#properties.has(field) && given[field] == null);
    return { name, url: urlOf(path), root: urlOf("").replace(/\/$/, ""), body, jobOnly, keyed: hasKey(), again };
  }

  async #copy() {
    const done = await copyText(byId("snippet"));
    byId("copied").textContent = done ? "Copied" : "Selected: press Ctrl + C";
  }

  async #run() {
    if (this.#aborter !== null || this.#analysis.job_only) return;
    const text = byId("request").value;
    const wrong = fault(text);
    if (wrong !== null) {
      this.#complain(wrong);
      return;
    }
    this.#forget();
    this.#complain("");
    const aborter = new AbortController();
    this.#aborter = aborter;
    this.#busy(true);
    try {
      await this.#ask(this.#analysis, text, aborter.signal);
    } catch (error) {
      this.#fail(error, aborter.signal);
    } finally {
      this.#aborter = null;
      this.#busy(false);
    }
  }

  async #ask(analysis, text, signal) {
    this.#say("Running …");
    const began = performance.now();
    const reply = await (await call(analysis.path, { body: text, accept: "application/json", signal })).text();
    const seconds = (performance.now() - began) / 1000;
    signal.throwIfAborted();
    const found = parse(reply);
    fill(byId("reply"), replyView(found));
    this.#link("save-reply", new Blob([reply], { type: "application/json" }), `${fileName(analysis)}.json`);
    this.#calls(); // a key may have been given meanwhile
    byId("outcome").hidden = false;
    const warned = found.warnings.length === 0 ? "" : `, with ${counted(found.warnings.length, "warning")}`;
    const done = `Done in ${seconds < 0.1 ? "less than 0.1" : seconds.toFixed(1)} s${warned}.`;
    this.#say(`${done} Drawing the picture …`);
    const same = SAME_RUN.filter((name) => found[name] != null && parse(text)[name] == null);
    const body = same.reduce((sofar, name) => withField(sofar, name, found[name]), text);
    const picture = await (await call(analysis.path, { body, accept: "image/png", signal })).arrayBuffer();
    signal.throwIfAborted();
    this.#picture(analysis, found, picture);
    this.#say(done);
  }

  #picture(analysis, found, buffer) {
    const told = pngTexts(buffer).get("Description");
    const seed = found.seed == null ? "" : `, seed ${found.seed}`;
    const url = this.#link("save-picture", new Blob([buffer], { type: "image/png" }), `${fileName(analysis)}.png`);
    const image = byId("picture");
    image.src = url;
    image.alt = `Plot of ${analysis.name}${told === undefined ? "" : `: ${told}`}`;
    byId("caption").textContent = `${analysis.name}: ${found.method}${seed}`;
    byId("figure").hidden = false;
    byId("no-picture").hidden = true;
  }

  /** Let a link save a blob; returns its address, which is freed when the next run begins. */
  #link(id, blob, name) {
    const url = URL.createObjectURL(blob);
    this.#urls.push(url);
    Object.assign(byId(id), { href: url, download: name, hidden: false });
    return url;
  }

  #fail(error, signal) {
    if (signal.aborted) {
      if (signal.reason !== LEFT) this.#say("Cancelled.");
      return;
    }
    const wait = error.retryAfterS == null ? "" : ` Try again in ${error.retryAfterS} s.`;
    this.#complain(`${error.message}.${wait}`);
    this.#say("");
    const field = error.param == null ? null : nearest(byId("request").value, error.param);
    if (field !== null) {
      byId("request").focus();
      byId("request").setSelectionRange(field.start, field.end);
    }
  }

  #complain(text) {
    byId("fault").textContent = text;
    byId("request").setAttribute("aria-invalid", String(text !== ""));
  }

  #say(text) {
    byId("status").textContent = text;
  }

  #busy(isBusy) {
    byId("run").disabled = isBusy;
    byId("cancel").hidden = !isBusy;
    byId("no-picture").textContent = isBusy ? "Not drawn yet …" : "Run the request to see its picture.";
  }

  /** The outcome of the last run goes. */
  #forget() {
    for (const url of this.#urls) URL.revokeObjectURL(url);
    this.#urls = [];
    fill(byId("reply"));
    byId("picture").removeAttribute("src");
    for (const id of ["figure", "save-reply", "save-picture", "outcome"]) byId(id).hidden = true;
    byId("no-picture").hidden = false;
  }

  async #fields(analysis) {
    const target = byId("fields");
    fill(target);
    try {
      this.#document ??= await callJson("openapi.json");
      if (this.#analysis !== analysis) return;
      const { schema } = this.#document.paths[analysis.path].post.requestBody.content["application/json"];
      fill(target, fieldList(this.#document, schema));
      this.#properties = new Set(Object.keys(resolved(this.#document, schema).properties));
      this.#calls();
    } catch (error) {
      fill(target, el("p", { class: "error" }, `The schema did not come: ${error.message}.`));
    }
  }
}

/** What is wrong with a text that is to be an object; null if nothing is. */
function fault(text) {
  try {
    const value = parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? null : "The request must be a JSON object.";
  } catch (error) {
    return `The request is not valid JSON: ${error.message}`;
  }
}

/** The place of a field, or of the nearest thing around it that stands in the text. */
function nearest(text, path) {
  for (const parts = path.split("."); parts.length > 0; parts.pop()) {
    const place = placeOf(text, parts.join("."));
    if (place !== null) return place;
  }
  return null;
}

function fileName(analysis) {
  return analysis.name.replaceAll("/", "-");
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
