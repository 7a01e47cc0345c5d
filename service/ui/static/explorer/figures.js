/** The three pictures of a run: log π against time, acceptance by stage, and where it was cut. */

import { svg } from "../dom.js";
import { Figure, PLOT, bottomAxis, box, keyEntry, scale, ticks, valueAxis } from "./chart.js";
import { alphaOf } from "./measures.js";
import { outcomeOf } from "./replay.js";
import { METHODS, chainName, number } from "./words.js";

const BINS = 32;
const LINES = 8;
const FATES = [
  ["accepted", "accepted"],
  ["same", "redrew the same"],
  ["rejected", "rejected"],
  ["early", "rejected early"],
];

/** log π = α Σ log p of each chain after each moment; stages have traces of different lengths. */
export class LogPi extends Figure {
  constructor() {
    super("log π", "α Σ log p of the answer at each moment, in nats, up to a constant. Dotted lines begin a stage.");
    this.cursor = svg("line", { class: "cursor", y1: PLOT.top, y2: PLOT.bottom });
    this.last = 1;
  }

  update(chains) {
    const series = chains.map(({ lane, choice, frames }) => ({
      name: chainName(lane, choice),
      values: frames.map((frame) => (frame.logP === null ? null : alphaOf(lane.request) * frame.logP)),
    }));
    const known = series.flatMap(({ values }) => values).filter((value) => value !== null);
    this.last = Math.max(1, ...series.map(({ values }) => values.length - 1));
    const [low, high] = known.length ? [-largest(known.map((value) => -value)), largest(known)] : [-1, 0];
    const pad = (high - low || 1) * 0.06;
    const y = scale(low - pad, high + pad, PLOT.bottom, PLOT.top);
    const x = scale(0, this.last, PLOT.left, PLOT.right);
    const lines = series.map(({ values }, i) => svg("path", { class: `line s${i % LINES}`, d: stairs(values, x, y) }));
    const labels = ticks(0, this.last, 5).filter(Number.isInteger).map((at) => [x(at), at + 1]);
    const ends = series.map(({ name, values }) => `${name} is at ${number(values.findLast((value) => value !== null), 1)}`);
    this.draw(
      [valueAxis(ticks(low, high), y), stageLines(chains[0]?.frames ?? [], x), bottomAxis(labels, "moment"), lines, this.cursor],
      `${ends.join("; ")} nats.`,
      series.map(({ name }, i) => keyEntry(svg("path", { class: `line s${i % LINES}`, d: "M1 6H21" }), name)),
    );
    const longest = chains.reduce((most, chain) => (chain.frames.length > most.frames.length ? chain : most), { frames: [] });
    const rows = () => longest.frames.map((_, i) => [i + 1, ...series.map(({ values }) => number(values[i]))]);
    this.numbers(["moment", ...series.map(({ name }) => name)], rows);
  }

  /** Mark a moment. */
  mark(moment) {
    const at = scale(0, this.last, PLOT.left, PLOT.right)(Math.min(moment, this.last));
    this.cursor.setAttribute("x1", at);
    this.cursor.setAttribute("x2", at);
  }
}

/** What became of the proposals of each stage. */
export class Acceptance extends Figure {
  constructor() {
    super("Acceptance by stage", "What became of the proposals of each stage, all chains of a method together.");
  }

  update(chains) {
    const lanes = grouped(chains);
    const stages = Math.max(1, largest(chains.flatMap(({ frames }) => frames.map((frame) => frame.stages))));
    const counts = lanes.map(({ frames }) => fatesByStage(frames, stages));
    const most = Math.max(1, ...counts.flat().map((each) => total(each)));
    const y = scale(0, most, PLOT.bottom, PLOT.top);
    const band = (PLOT.right - PLOT.left) / stages;
    const width = Math.min(34, (band * 0.8) / lanes.length);
    const bars = counts.flatMap((found, lane) =>
      found.flatMap((each, stage) => {
        const middle = PLOT.left + band * (stage + 0.5);
        return stacked(each, middle + (lane - lanes.length / 2) * width + 1, width - 2, y, lane);
      }),
    );
    const every = Math.ceil(stages / 16);
    const labels = Array.from({ length: stages }, (_, i) => [PLOT.left + band * (i + 0.5), i % every ? "" : i + 1]);
    const rows = () => lanes.flatMap(({ name }, lane) =>
      counts[lane].map((each, stage) => [`${name}, stage ${stage + 1}`, ...FATES.map(([fate]) => each[fate]), share(each)]),
    );
    const all = counts.map((found, lane) => `${lanes[lane].name}: ${share(sumOf(found))} accepted`);
    const signs = FATES.map(([fate, word]) => keyEntry(box(`bar ${fate}`, 4, 1, 14, 10), word));
    this.draw([patterns(), valueAxis(ticks(0, most).filter(Number.isInteger), y), bottomAxis(labels, lanes.length > 1 ? `stage (left: ${lanes[0].name}, right: ${lanes[1].name})` : "stage"), bars], `${all.join("; ")}.`, signs);
    this.numbers(["stage", ...FATES.map(([, word]) => word), "accepted"], rows);
  }
}

/** Where steps cut the answer: the first method above the line, a second one below. */
export class Cuts extends Figure {
  constructor() {
    super("Where it cut", "How often each stretch of positions was cut, all chains of a method together.");
  }

  update(chains) {
    const lanes = grouped(chains);
    const longest = Math.max(1, ...lanes.map(({ lane }) => lane.request.max_tokens ?? 16));
    const size = Math.ceil(longest / BINS);
    const bins = Math.ceil(longest / size);
    const counts = lanes.map(({ frames }) => histogram(frames, size, bins));
    const most = Math.max(1, ...counts.flat());
    const mirrored = lanes.length > 1;
    const zero = mirrored ? (PLOT.top + PLOT.bottom) / 2 : PLOT.bottom;
    const y = scale(0, most, zero, PLOT.top);
    const width = (PLOT.right - PLOT.left) / bins;
    const bars = counts.flatMap((found, lane) =>
      found.map((value, i) => {
        const height = zero - y(value);
        return box(`bar cuts s${lane}`, PLOT.left + i * width + 0.75, lane ? zero : zero - height, width - 1.5, height);
      }),
    );
    const labels = ticks(0, longest, 5).filter(Number.isInteger).map((at) => [PLOT.left + (at / size) * width, at]);
    const values = ticks(0, most, mirrored ? 2 : 4).filter(Number.isInteger);
    const below = mirrored ? valueAxis(values.slice(1), (value) => 2 * zero - y(value)) : [];
    const line = svg("line", { class: "axis", x1: PLOT.left, x2: PLOT.right, y1: zero, y2: zero });
    const rows = () => counts[0].map((_, i) => [`${i * size}–${Math.min(longest, (i + 1) * size) - 1}`, ...counts.map((found) => found[i])]);
    const said = lanes.map(({ name }, lane) => `${name}: ${counts[lane].reduce((a, b) => a + b, 0)} cuts, most at position ${counts[lane].indexOf(Math.max(...counts[lane])) * size}`);
    const signs = mirrored ? lanes.map(({ name }, i) => keyEntry(box(`bar cuts s${i}`, 4, 1, 14, 10), `${name}, ${i ? "below" : "above"}`)) : [];
    this.draw([valueAxis(values, y), below, bottomAxis(labels, "position of the cut"), bars, line], `${said.join("; ")}.`, signs);
    this.numbers(["positions", ...lanes.map(({ name }) => name)], rows);
  }
}

/** The largest of values that may be more than a call can have arguments; −∞ of none. */
function largest(values) {
  return values.reduce((most, value) => Math.max(most, value), -Infinity);
}

function grouped(chains) {
  const lanes = [...new Set(chains.map(({ lane }) => lane))];
  return lanes.map((lane) => ({
    lane,
    name: METHODS[lane.method] ?? lane.method,
    frames: chains.filter((chain) => chain.lane === lane).flatMap(({ frames }) => frames),
  }));
}

function fatesByStage(frames, stages) {
  const found = Array.from({ length: stages }, () => Object.fromEntries(FATES.map(([fate]) => [fate, 0])));
  for (const frame of frames) {
    const fate = outcomeOf(frame);
    if (found[frame.stage - 1]?.[fate] !== undefined) found[frame.stage - 1][fate] += 1;
  }
  return found;
}

function total(counts) {
  return FATES.reduce((all, [fate]) => all + counts[fate], 0);
}

function sumOf(found) {
  return Object.fromEntries(FATES.map(([fate]) => [fate, found.reduce((all, each) => all + each[fate], 0)]));
}

function share(counts) {
  const all = total(counts);
  return all ? `${Math.round((100 * (counts.accepted + counts.same)) / all)} %` : "–";
}

function stacked(counts, x, width, y) {
  let below = 0;
  return FATES.map(([fate]) => {
    const bottom = y(below);
    below += counts[fate];
    return box(`bar ${fate}`, x, y(below), width, bottom - y(below));
  });
}

function histogram(frames, size, bins) {
  const found = new Array(bins).fill(0);
  for (const frame of frames) if (frame.kind === "stepped") found[Math.min(bins - 1, Math.floor(frame.cut / size))] += 1;
  return found;
}

function stairs(values, x, y) {
  let path = "";
  values.forEach((value, i) => {
    if (value !== null) path += path ? `H${x(i).toFixed(1)}V${y(value).toFixed(1)}` : `M${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  return path;
}

function stageLines(frames, x) {
  return frames.flatMap((frame, i) =>
    i > 0 && frame.stage !== frames[i - 1].stage ? [svg("line", { class: "stage", x1: x(i), x2: x(i), y1: PLOT.top, y2: PLOT.bottom })] : [],
  );
}

function patterns() {
  const stripes = svg("pattern", { id: "stripes", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("rect", { class: "under rejected", width: 5, height: 5 }), svg("line", { class: "over rejected", x1: 0, x2: 0, y1: 0, y2: 5 }));
  const dots = svg("pattern", { id: "dots", width: 5, height: 5, patternUnits: "userSpaceOnUse" }, svg("rect", { class: "under early", width: 5, height: 5 }), svg("circle", { class: "over early", cx: 2.5, cy: 2.5, r: 1.1 }));
  return svg("defs", {}, stripes, dots);
}
