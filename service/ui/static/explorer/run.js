/** A run: one streamed request for each lane, into a recording and its viewer. */

import { Dropped } from "../events.js";
import { stream } from "../session.js";
import { take } from "./recording.js";

export class Run {
  #abort = new AbortController();

  constructor(recording, viewer) {
    Object.assign(this, { recording, viewer });
    this.error = null;
  }

  /** Run all lanes to their ends, whatever these are; `error` is the first refusal. */
  async finish() {
    await Promise.all(this.recording.lanes.map((lane, i) => this.#lane(lane, i)));
  }

  /** End it; the service then frees the work. */
  stop() {
    this.#abort.abort();
  }

  async #lane(lane, i) {
    try {
      for await (const chunk of stream("v1/completions", streamed(lane.request), { signal: this.#abort.signal })) {
        const event = take(lane, chunk);
        if (event !== null && this.#isShown) this.viewer.push(i, event);
      }
      lane.status = "done";
    } catch (error) {
      lane.status = this.#statusOf(error);
      lane.error = lane.status === "stopped" ? null : error.message;
      if (lane.status === "failed") this.#refused(error);
    }
    if (this.#isShown) this.viewer.close(i);
  }

  /** Whether the viewer still shows this run: the reader may have opened a file meanwhile. */
  get #isShown() {
    return this.viewer.recording === this.recording;
  }

  #statusOf(error) {
    if (this.#abort.signal.aborted) return "stopped";
    return error instanceof Dropped ? "dropped" : "failed";
  }

  #refused(error) {
    this.error ??= error;
    this.stop(); // what the other lanes would show has nothing to be compared with
  }
}

/** The request with what makes the service tell its steps. */
function streamed(request) {
  const power = { ...request.power, stream_events: true, include: ["diagnostics", "tokens"] };
  return { ...request, power, stream: true, stream_options: { include_usage: true } };
}

/**
 * How far a run repeats another one that was cut off: the events that both have, and whether they tell the same.
 * Lanes mix the events of their chains as they come, so each chain is compared by itself.
 */
export function repeats(before, now) {
  let compared = 0;
  let same = true;
  before.lanes.forEach((lane, i) => {
    for (let choice = 0; choice < (lane.request.n ?? 1); choice += 1) {
      const [old, fresh] = [lane, now.lanes[i]].map((each) => each.events.filter((event) => event.choice === choice));
      const length = Math.min(old.length, fresh.length);
      for (let at = 0; at < length; at += 1) same &&= tells(old[at]) === tells(fresh[at]);
      compared += length;
    }
  });
  return { compared, same };
}

function tells(event) {
  return JSON.stringify([event.type, event.cut, event.ids, event.proposal, event.accepted]);
}
