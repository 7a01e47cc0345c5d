/**
 * From a lane's events to the states of its chains, one frame an event. Pure: no DOM, and the same events always give
 * the same frames.
 *
 * A token is {id, text, name, logP, logZ, entropy}; traces share their tokens, so that a frame costs an array. `text`
 * is null where only the id is known.
 */

/** Tokens of the longest trace: the page has an element for each. */
export const LONGEST = 1 << 17;
/** The service's own bound of `blocks`. */
export const STAGES = 256;
/** No number of a chain, in nats or tokens, is larger; beyond it pictures have no scale. */
export const LARGEST = 1e12;
/** Tokens in all traces of a lane together, about 512 MiB of a browser's memory. */
const TRACES = 1 << 27;
/** A token that was not told, after lost events. */
const LOST = Object.freeze(unknown(null));

/** All chains of one lane. Frames are `chains[choice][moment]`. */
export class Replay {
  constructor(lane) {
    this.lane = lane;
    this.chains = Array.from({ length: lane.request.n ?? 1 }, () => []);
    this.count = 0;
    this.tokens = 0;
  }

  /** Take the next event; throws an Error that says what is wrong with it. */
  push(event) {
    check(typeof event === "object" && event !== null, "it is no object");
    const frames = this.#framesOf(event.choice);
    check(frames !== null, "it belongs to no chain");
    const frame = frameAfter(frames.at(-1) ?? null, event);
    if (frame.after !== frame.before) this.tokens += frame.after.length;
    check(this.tokens <= TRACES, "the traces are more than this page can hold");
    frames.push(frame);
    this.count += 1;
    return frame;
  }

  /** Add what the finished answers say: a last frame where one differs from what its chain has told. */
  close() {
    for (const choice of this.lane.final.choices) {
      const frames = this.#framesOf(choice?.index);
      const ids = choice?.power?.token_ids;
      if (frames === null || !Array.isArray(ids)) continue;
      const told = frames.at(-1)?.after ?? [];
      const same = told.length === ids.length && told.every((token, i) => token.id === ids[i]);
      if ((!same || lostAtEnd(choice) > 0) && frames.at(-1)?.kind !== "ended") frames.push(endedFrame(frames.at(-1) ?? null, ids, choice));
    }
  }

  #framesOf(choice) {
    return Number.isInteger(choice) && choice >= 0 && choice < this.chains.length ? this.chains[choice] : null;
  }

  /** The number of moments: the frames of the chain that has most. */
  get moments() {
    return Math.max(0, ...this.chains.map((frames) => frames.length));
  }
}

/** The state of a chain after one more event, from the one before it (null at the start). */
export function frameAfter(previous, event) {
  const before = previous?.after ?? [];
  const gap = (previous?.gap ?? 0) + whole(event.dropped ?? 0, "dropped");
  const frame = {
    kind: event.type,
    event,
    before,
    after: before,
    cut: null,
    proposal: [],
    stage: whole(event.stage, "stage", event.stages),
    stages: whole(event.stages, "stages", STAGES),
    step: whole(event.step ?? 0, "step"),
    logP: null,
    gap,
    lost: 0,
    drawn: whole(event.generated_tokens, "generated_tokens"),
  };
  if (event.type === "extended") return extended(frame, event);
  if (event.type === "stepped") return stepped(frame, event);
  check(event.type === "kept", `its type ${JSON.stringify(event.type)} is not known`);
  return { ...frame, logP: numeric(event.log_p, "log_p") };
}

function extended(frame, event) {
  check(Array.isArray(event.ids) && event.ids.length <= LONGEST, "it has no ids, or too many");
  const start = whole(event.tokens?.start ?? Math.min(frame.before.length, event.ids.length), "start", event.ids.length);
  const suffix = tokensOf(event.ids.slice(start), event.tokens);
  const after = spliced(frame.before, start, suffix, event.tokens, frame.gap);
  return { ...frame, cut: start, proposal: suffix, after, logP: sum(after) };
}

function stepped(frame, event) {
  check(Array.isArray(event.proposal) && event.proposal.length <= LONGEST, "it has no proposal, or too much");
  const cut = whole(event.cut, "cut", LONGEST - event.proposal.length);
  check((event.tokens?.start ?? cut) === cut, "its tokens do not begin at its cut");
  for (const name of ["log_ratio", "log_u", "power_term", "cut_term"]) numeric(event[name], name);
  const suffix = tokensOf(event.proposal, event.tokens);
  const after = event.moved ? spliced(frame.before, cut, suffix, event.tokens, frame.gap) : frame.before;
  check(frame.gap > 0 || cut <= frame.before.length, "it cuts after the end of its trace");
  return { ...frame, cut, proposal: suffix, after, logP: numeric(event.log_p, "log_p") };
}

/** A trace up to `start`, then `suffix`; the last token kept may get another text, if it ended within a character. */
function spliced(before, start, suffix, told, gap) {
  check(gap > 0 || start <= before.length, "it goes on after the end of its trace");
  const kept = before.slice(0, start);
  while (kept.length < start) kept.push(LOST);
  if (told && told.text_start < start && kept.length > 0) {
    kept[start - 1] = { ...kept[start - 1], text: told.text[0] };
  }
  return kept.concat(suffix);
}

function tokensOf(ids, told) {
  check(ids.every((id) => Number.isInteger(id) && id >= 0), "an id is no number");
  if (!told) return ids.map(unknown);
  const back = whole(told.start, "start") - whole(told.text_start, "text_start");
  check((back === 0 || back === 1) && Array.isArray(told.text), "its texts begin at the wrong place");
  check(told.text.length === ids.length + back && told.text.every((text) => typeof text === "string"), "a text is missing");
  for (const name of ["log_p", "log_z", "entropy"]) {
    const values = told[name];
    check(Array.isArray(values) && values.length === ids.length, `${name} is not there for each token`);
    check(values.every((value) => value === null || isNumeric(value)), `${name} holds what is no number`);
  }
  check(ids.every((id) => typeof (told.names?.[id] ?? "") === "string"), "a name is no text");
  return ids.map((id, i) => ({
    id,
    text: told.text[i + back],
    name: nameOf(told.names?.[id]),
    logP: told.log_p[i],
    logZ: told.log_z[i],
    entropy: told.entropy[i],
  }));
}

/** A token's name; none for what is only bytes within a character, though an engine may write them as U+FFFD. */
function nameOf(name) {
  return name === undefined || name === null || /^\ufffd*$/.test(name) ? null : name;
}

function unknown(id) {
  return { id, text: null, name: null, logP: null, logZ: null, entropy: null };
}

/** What a finished answer adds to what its chain told: its ids, and the text of those that were not told. */
function endedFrame(previous, ids, choice) {
  const told = previous?.after ?? [];
  const same = ids.findIndex((id, i) => told[i]?.id !== id);
  const kept = told.slice(0, same === -1 ? ids.length : same);
  const rest = ids.slice(kept.length).map(unknown);
  const known = textOf(kept);
  if (rest.length > 0 && choice.text?.startsWith(known)) rest[0] = { ...rest[0], text: choice.text.slice(known.length) };
  const after = kept.concat(rest);
  const place = { stage: choice.power.stage ?? 1, stages: choice.power.stages ?? 1, step: 0 };
  const log = { logP: choice.power.log_p ?? null, drawn: previous?.drawn ?? 0 };
  const lost = { gap: 0, lost: lostAtEnd(choice), byLimit: choice.power.ended_by !== "completed" };
  return { kind: "ended", event: null, before: told, after, cut: kept.length, proposal: rest, ...place, ...log, ...lost };
}

/** How many events of a finished answer's chain were left out after the last that was told. */
function lostAtEnd(choice) {
  return choice.power.dropped ?? 0;
}

/** The text of a trace, ends left out. */
export function textOf(tokens) {
  return tokens.map((token) => token.text ?? "").join("");
}

/** What became of a frame: extended, accepted, same (accepted, and equal to what was there), rejected, early, kept, ended. */
export function outcomeOf(frame) {
  if (frame.kind !== "stepped") return frame.kind;
  if (frame.event.accepted) return frame.event.moved ? "accepted" : "same";
  return frame.event.rejected_early ? "early" : "rejected";
}

function sum(tokens) {
  return tokens.reduce((total, token) => (total === null || token.logP === null ? null : total + token.logP), 0);
}

function whole(value, name, most = Number.MAX_SAFE_INTEGER) {
  check(Number.isSafeInteger(value) && value >= 0, `${name} is no number`);
  check(value <= most, `${name} is too large`);
  return value;
}

function numeric(value, name) {
  check(value === null || value === undefined || isNumeric(value), `${name} is no number`);
  return value ?? null;
}

function isNumeric(value) {
  return Number.isFinite(value) && Math.abs(value) <= LARGEST;
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}
