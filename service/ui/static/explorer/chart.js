/** What all pictures share: a frame with axes, and a table of the same numbers for those who do not see it. */

import { el, fill, svg } from "../dom.js";

export const WIDTH = 420;
export const HEIGHT = 210;
export const PLOT = { left: 46, right: 412, top: 12, bottom: 178 };

/** A picture with a title, a key, and its numbers as a table behind a fold. */
export class Figure {
  constructor(title, note) {
    this.title = title;
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "chart" });
    this.key = el("p", { class: "key" });
    this.table = el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `${title}: numbers` });
    this.fold = el("details", { on: { toggle: () => this.#write() } }, el("summary", {}, "Numbers"), this.table);
    this.written = { columns: [], rows: () => [] };
    const heading = el("h3", {}, title);
    this.element = el("figure", { class: "card figure" }, el("figcaption", {}, heading, el("p", { class: "soft" }, note)), this.drawing, this.key, this.fold);
  }

  /** Draw: `parts` are SVG elements, `said` what a screen reader says of them, `key` names their signs. */
  draw(parts, said, key = []) {
    this.drawing.setAttribute("aria-label", `${this.title}. ${said}`);
    fill(this.drawing, parts);
    fill(this.key, key);
  }

  /** The numbers: names of columns, and a function that gives the rows; it is called only where somebody looks. */
  numbers(columns, rows) {
    this.written = { columns, rows };
    this.#write();
  }

  #write() {
    if (!this.fold.open) return;
    const { columns } = this.written;
    const rows = this.written.rows();
    const head = el("thead", {}, el("tr", {}, columns.map((name, i) => el("th", { scope: "col", class: i ? "number" : null }, name))));
    const body = el("tbody", {}, rows.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, first), rest.map((value) => el("td", { class: "number" }, value)))));
    fill(this.table, el("table", {}, head, body));
  }
}

/** A linear map of values to pixels. */
export function scale(from, to, start, end) {
  const span = to === from ? 1 : to - from;
  return (value) => start + ((value - from) / span) * (end - start);
}

/** Round values between two bounds, about `wanted` of them. */
export function ticks(low, high, wanted = 4) {
  const raw = Math.max(high - low, 1e-9) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Horizontal lines with their values at the left. */
export function valueAxis(values, y, written = String) {
  return values.map((value) => [
    svg("line", { class: "grid", x1: PLOT.left, x2: PLOT.right, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: PLOT.left - 6, y: y(value) + 4, "text-anchor": "end" }, written(value).replace("-", "−")),
  ]);
}

/** Labels below the plot, and what they count. */
export function bottomAxis(labels, name) {
  return [
    svg("line", { class: "axis", x1: PLOT.left, x2: PLOT.right, y1: PLOT.bottom, y2: PLOT.bottom }),
    labels.map(([at, text]) => svg("text", { class: "tick", x: at, y: PLOT.bottom + 14, "text-anchor": "middle" }, text)),
    svg("text", { class: "tick", x: (PLOT.left + PLOT.right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, name),
  ];
}

/** A sign of the key: a small drawing and a word. */
export function keyEntry(sign, word) {
  const drawn = svg("svg", { viewBox: "0 0 22 12", class: "sign", "aria-hidden": "true" }, sign);
  return el("span", { class: "entry" }, drawn, ` ${word}`);
}

/** A rectangle. */
export function box(look, x, y, width, height) {
  return svg("rect", { class: look, x, y, width: Math.max(0, width), height: Math.max(0, height) });
}
