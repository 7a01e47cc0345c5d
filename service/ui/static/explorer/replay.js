/**
 * From a lane's events to the states of its chains, one frame an event. Pure: no DOM, and the same events always give
 * the same frames.
 *
 * A token is {id, text, name, logP, logZ, entropy}; traces share their tokens, so that a frame costs an array. `text`
 * is null where only the id is known.
 */

/** All chains of one lane. Frames are `chains[choice][moment]`. */
export class Replay {
  constructor(lane) {
    this.lane = lane;
    this.chains = Array.from({ length: lane.request.n ?? 1 }, () => []);
    this.count = 0;
  }

  /** Take the next event; throws an Error that says what is wrong with it. */
  push(event) {
    check(typeof event === "object" && event !== null, "it is no object");
    const frames = this.chains[event.choice];
    check(Array.isArray(frames), "it belongs to no chain");
    frames.push(frameAfter(frames.at(-1) ?? null, event));
    this.count += 1;
    return frames.at(-1);
  }

  /** Add what the finished answers say: a last frame where one differs from what its chain has told. */
  close() {
    for (const choice of this.lane.final.choices) {
      const frames = choice ? this.chains[choice.index] : null;
      const ids = choice?.power?.token_ids;
      if (!frames || !Array.isArray(ids)) continue;
      const told = frames.at(-1)?.after ?? [];
      const same = told.length === ids.length && told.every((token, i) => token.id === ids[i]);
      if (!same && frames.at(-1)?.kind !== "ended") frames.push(endedFrame(frames.at(-1) ?? null, ids, choice));
    }
  }

  /** The number of moments: the frames of the chain that has most. */
  get moments() {
    return Math.max(0, ...this.chains.map((frames) => frames.length));
  }
}

/** The state of a chain after one more event, from the one before it (null at the start). */
export function frameAfter(previous, event) {
  const before = previous?.after ?? [];
  const gap = (previous?.gap ?? 0) + (event.dropped ?? 0);
  const frame = {
    kind: event.type,
    event,
    before,
    after: before,
    cut: null,
    proposal: [],
    stage: whole(event.stage, "stage"),
    stages: whole(event.stages, "stages"),
    step: event.step ?? 0,
    logP: null,
    gap,
    drawn: whole(event.generated_tokens, "generated_tokens"),
  };
  if (event.type === "extended") return extended(frame, event);
  if (event.type === "stepped") return stepped(frame, event);
  check(event.type === "kept", `its type ${JSON.stringify(event.type)} is not known`);
  return { ...frame, logP: event.log_p };
}

function extended(frame, event) {
  check(Array.isArray(event.ids), "it has no ids");
  const start = event.tokens?.start ?? frame.before.length;
  const suffix = tokensOf(event.ids.slice(start), event.tokens);
  const after = spliced(frame.before, start, suffix, event.tokens, frame.gap);
  return { ...frame, cut: start, proposal: suffix, after, logP: sum(after) };
}

function stepped(frame, event) {
  check(Array.isArray(event.proposal), "it has no proposal");
  const cut = whole(event.cut, "cut");
  const suffix = tokensOf(event.proposal, event.tokens);
  const after = event.moved ? spliced(frame.before, cut, suffix, event.tokens, frame.gap) : frame.before;
  check(frame.gap > 0 || cut <= frame.before.length, "it cuts after the end of its trace");
  return { ...frame, cut, proposal: suffix, after, logP: event.log_p };
}

/** A trace up to `start`, then `suffix`; the last token kept may get another text, if it ended within a character. */
function spliced(before, start, suffix, told, gap) {
  check(gap > 0 || start <= before.length, "it goes on after the end of its trace");
  const kept = before.slice(0, start);
  while (kept.length < start) kept.push(unknown(null)); // after events that were not told
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
    check(values.every((value) => value === null || Number.isFinite(value)), `${name} holds what is no number`);
  }
  return ids.map((id, i) => ({
    id,
    text: told.text[i + back],
    name: told.names?.[id] ?? null,
    logP: told.log_p[i],
    logZ: told.log_z[i],
    entropy: told.entropy[i],
  }));
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
  const log = { logP: choice.power.log_p ?? null, gap: previous?.gap ?? 0, drawn: previous?.drawn ?? 0 };
  return { kind: "ended", event: null, before: told, after, cut: kept.length, proposal: rest, ...place, ...log };
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

function whole(value, name) {
  check(Number.isInteger(value) && value >= 0, `${name} is no number`);
  return value;
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}
