/** Numbers, steps and tokens in words, and text made visible. No DOM here. */

import { outcomeOf } from "./replay.js";

export const METHODS = { entropy_cut: "Entropy cut", uniform_cut: "Uniform cut", multiple_try: "Multiple try" };

/** Signs of what became of a step; each has a word, a glyph and a colour. */
export const OUTCOMES = {
  extended: { glyph: "→", word: "extended" },
  accepted: { glyph: "✓", word: "accepted" },
  same: { glyph: "=", word: "redrew the same" },
  rejected: { glyph: "✗", word: "rejected" },
  early: { glyph: "⊣", word: "rejected early" },
  kept: { glyph: "·", word: "nothing to redraw" },
  ended: { glyph: "■", word: "ended" },
};

/** What is not seen: all that Unicode says to ignore, but for the joiners and forms that scripts and emoji need. */
const UNSEEN = /(?![\t\n\u200c\u200d\ufe00-\ufe0f])[\p{Cc}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\u2028\u2029\ufff9-\ufffb]/gu;

/** A text as it is shown: control characters, and those that would turn or hide what follows, as signs. */
export function visible(text) {
  const signs = text.replace(UNSEEN, (sign) => {
    const code = sign.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return code === 0x7f ? "␡" : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
  return signs.replaceAll("\n", "↵\n").replaceAll("\t", "⇥\t");
}

/** What a token shows in a trace: its text, its name if it has none, or a dot where it is part of a character. */
export function shownToken(token, limit) {
  if (token.text === null) return { text: token.id === null ? "…" : `⟨${token.id}⟩`, mark: true, clipped: false };
  if (token.text === "") return { text: visible(token.name ?? "·"), mark: true, clipped: false };
  const clipped = token.text.length > limit;
  return { text: clipped ? `${visible(head(token.text, limit))}…` : visible(token.text), mark: false, clipped };
}

/** The first characters of a text, never half of one. */
export function head(text, limit) {
  const end = /[\ud800-\udbff]/.test(text[limit - 1] ?? "") ? limit - 1 : limit;
  return text.slice(0, end);
}

/** A number to so many digits after the point, with a real minus; "–" for none. */
export function number(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return value.toFixed(digits).replace("-", "−");
}

/** A count with its noun: 1 token, 2 tokens; thousands apart. */
export function count(value, noun) {
  return `${value.toLocaleString("en")} ${noun}${value === 1 ? "" : "s"}`;
}

/** Where a frame is in its chain. */
export function placeOf(frame) {
  const step = frame.step ? `, step ${frame.step}` : "";
  return `stage ${frame.stage} of ${frame.stages}${step}`;
}

/** The name of a chain: its method, and its number if there are several. */
export function chainName(lane, choice) {
  const method = METHODS[lane.method] ?? lane.method;
  return (lane.request.n ?? 1) > 1 ? `${method}, chain ${choice + 1}` : method;
}

/** How many endings a step draws, in words, with the method of several; null with the others. */
function triesOf(request) {
  if (request.power.method !== "multiple_try") return null;
  const tries = request.power.tries ?? 4;
  return `${tries} ${tries === 1 ? "try" : "tries"}`;
}

/** A frame of a lane in a sentence. */
export function sentence(frame, { request }) {
  const { event } = frame;
  const drawn = count(frame.proposal.length, "token");
  const tries = triesOf(request);
  if (tries !== null && frame.kind === "stepped") return `Cut before token ${frame.cut + 1}; ${raced(outcomeOf(frame), tries, drawn)}`;
  switch (outcomeOf(frame)) {
    case "extended":
      if (frame.proposal.length === 0) return `The answer has ${event.finished ? "ended" : "reached its horizon"}; nothing was added.`;
      return `The answer was drawn on by ${drawn}${event.finished ? ", to its end" : ""}.`;
    case "accepted":
      return `Cut before token ${frame.cut + 1}; the new ending of ${drawn} was accepted.`;
    case "same":
      return `Cut before token ${frame.cut + 1}; the new ending was the old one again.`;
    case "rejected":
      return `Cut before token ${frame.cut + 1}; the new ending of ${drawn} was rejected.`;
    case "early":
      return `Cut before token ${frame.cut + 1}; the new ending was given up after ${drawn}: it could no longer win.`;
    case "kept":
      return "Nothing could be redrawn: this is the only answer there is.";
    default:
      return ended(frame);
  }
}

/** What became of a step with several tries, of which only one is told. */
function raced(outcome, tries, drawn) {
  const of = {
    accepted: `the best of ${tries}, a new ending of ${drawn}, was taken.`,
    same: `the best of ${tries} was the old ending again.`,
    rejected: `none of ${tries} won. The closest, of ${drawn}, is shown.`,
    early: `none of ${tries} could win. One, given up after ${drawn}, is shown.`,
  };
  return of[outcome];
}

function ended({ lost, byLimit }) {
  if (lost > 0) return `The last ${count(lost, "event")} of this chain did not arrive; this is its answer.`;
  if (byLimit) return "The chain was ended here by a limit; this is the answer as it stood.";
  return "The last events of this chain did not arrive; this is its answer.";
}

/** The decision of a step in numbers, or "". With several tries log u is what the one that is told had to beat. */
export function decision(frame, { request }) {
  if (frame.kind !== "stepped") return "";
  const { log_ratio: ratio, log_u: u, power_term: power, cut_term: cut } = frame.event;
  const bound = power !== null && cut !== null && power !== undefined && cut !== undefined ? power + cut : null;
  const left = ratio === null || ratio === undefined ? `log r ≤ ${number(bound)}` : `log r = ${number(ratio)}`;
  const sign = frame.event.accepted ? "≥" : "<";
  const tries = triesOf(request);
  if (tries === null) return `${left} ${sign} log u = ${number(u)}`;
  const which = { accepted: "the best", same: "the best", rejected: "the closest", early: "this one" }[outcomeOf(frame)];
  return `${left} ${sign} ${number(u)}, what ${which} of ${tries} had to beat`;
}
