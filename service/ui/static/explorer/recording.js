/**
 * A recording: what one run of the explorer asked and heard, as plain JSON. No DOM here.
 *
 *   {"powercut_recording": 1, "model", "created", "request", "lanes": [lane, …]}
 *   lane: {"method", "request", "status", "error", "events": [event, …], "final": {"choices", "diagnostics", "usage"}}
 *
 * An event is the API's `power_event` with its `tokens` (docs/api.md), without `text` and `proposal_text`, which the
 * tokens' own texts make. `status` is running, done, stopped (by the reader), dropped (by the network) or failed.
 */

import { jsonText, parse } from "../exact.js";
import { BadRecording, checkRecording } from "./checks.js";
import { Replay } from "./replay.js";

export const VERSION = 1;

/** A recording of these requests, one lane each, in which nothing has happened yet. */
export function newRecording(model, requests, created) {
  return { powercut_recording: VERSION, model, created, request: requests[0], lanes: requests.map(newLane) };
}

function newLane(request) {
  const method = request.power.method;
  return { method, request, status: "running", error: null, events: [], final: { choices: [], diagnostics: null, usage: null } };
}

/** An event as it is kept. */
export function kept(event) {
  const { text, proposal_text, ...rest } = event;
  return rest;
}

/**
 * Take one chunk of a streamed completion into a lane.
 *
 * @returns {Object|null} The event in it, as it is kept, or null if it holds none.
 */
export function take(lane, chunk) {
  if (chunk.power_diagnostics !== undefined) lane.final.diagnostics = chunk.power_diagnostics[0] ?? null;
  if (chunk.usage) lane.final.usage = chunk.usage;
  for (const choice of chunk.choices ?? []) lane.final.choices[choice.index] = choice;
  if (chunk.power_event === undefined) return null;
  const event = kept(chunk.power_event);
  lane.events.push(event);
  return event;
}

/** How many chains a lane has. */
export function chainsOf(lane) {
  return lane.request.n ?? 1;
}

/** The recording as a JSON text; a run in progress is saved as stopped here. */
export function toJson(recording) {
  const lanes = recording.lanes.map((lane) => ({ ...lane, status: lane.status === "running" ? "stopped" : lane.status }));
  return jsonText({ ...recording, lanes });
}

/**
 * A recording out of a file's text, checked to the last event; a seed beyond 2^53 is a BigInt.
 *
 * @throws {BadRecording} Says what is wrong with it.
 */
export function fromJson(text) {
  let found;
  try {
    found = parse(text);
  } catch (error) {
    throw new BadRecording(`The file is not JSON: ${error.message}.`);
  }
  if (typeof found !== "object" || found === null || found.powercut_recording === undefined) {
    throw new BadRecording("The file is JSON, but not a recording of the chain explorer: it has no powercut_recording.");
  }
  if (found.powercut_recording !== VERSION) {
    throw new BadRecording(`The recording has version ${shown(found.powercut_recording)}; this page reads version ${VERSION}.`);
  }
  checkRecording(found);
  for (const [i, lane] of found.lanes.entries()) checkEvents(lane, `lane ${i + 1}`);
  return found;
}

function checkEvents(lane, name) {
  const replay = new Replay(lane);
  try {
    for (const event of lane.events) replay.push(event);
    replay.close();
  } catch (error) {
    throw new BadRecording(`The recording cannot be replayed: ${name}, event ${replay.count + 1}: ${error.message}.`);
  }
}

function shown(value) {
  return String(jsonText(value)).slice(0, 40);
}
