/** All steps of all chains at a glance, above the slider: one row a chain, one cell a moment; a click goes there. */

import { fill, svg } from "../dom.js";
import { outcomeOf } from "./replay.js";

const ROW = 12;
/** The height of a cell: what became of a step shows in its form, not in its colour alone. */
const SHAPES = { accepted: [1, 10], same: [4, 4], rejected: [8, 3], early: [9.5, 1.5], extended: [1, 10], ended: [1, 10], kept: [5.5, 1] };

export class Strip {
  constructor(onPick) {
    this.moments = 1;
    this.cursor = svg("rect", { class: "here", y: 0 });
    this.element = svg("svg", { class: "strip", "aria-hidden": "true", preserveAspectRatio: "none" });
    this.element.addEventListener("click", (event) => {
      const { left, width } = this.element.getBoundingClientRect();
      onPick(Math.min(this.moments - 1, Math.floor(((event.clientX - left) / width) * this.moments)));
    });
  }

  update(chains) {
    this.moments = Math.max(1, ...chains.map(({ frames }) => frames.length));
    this.element.setAttribute("viewBox", `0 0 ${this.moments * 10} ${chains.length * ROW}`);
    this.element.style.height = `${Math.min(96, chains.length * ROW)}px`;
    this.cursor.setAttribute("width", 10);
    this.cursor.setAttribute("height", chains.length * ROW);
    const paths = {};
    chains.forEach(({ frames }, row) =>
      frames.forEach((frame, i) => {
        const outcome = outcomeOf(frame);
        const [top, height] = SHAPES[outcome];
        paths[outcome] = `${paths[outcome] ?? ""}M${i * 10 + 1.5} ${row * ROW + top}h7v${height}h-7z`;
      }),
    );
    const drawn = Object.entries(paths).map(([outcome, d]) => svg("path", { class: `cell ${outcome}`, d }));
    fill(this.element, this.cursor, drawn);
  }

  mark(moment) {
    this.cursor.setAttribute("x", moment * 10);
  }
}
