/**
 * What a file must hold for the page to show it: the kind and the bounds of all that is read later, but for the events,
 * which `Replay` checks as it takes them. No DOM here.
 */

import { LARGEST, LONGEST, STAGES } from "./replay.js";

const STATUSES = ["running", "done", "stopped", "dropped", "failed"];
const LANES = 8;
const CHAINS = 256;

/** A file that is no recording, or one that cannot be shown; the message is for its reader. */
export class BadRecording extends Error {
  constructor(message) {
    super(message);
    this.name = "BadRecording";
  }
}

/** Throw BadRecording unless a recording can be shown, its events apart. */
export function checkRecording({ model, created, request, lanes }) {
  need(Array.isArray(lanes) && lanes.length > 0 && lanes.length <= LANES, "it needs one to eight lanes");
  need(typeof model === "string" && isNone(created, isString), "it names no model or time");
  checkRequest(request, "it");
  for (const [i, lane] of lanes.entries()) checkLane(lane, `lane ${i + 1}`);
}

function checkLane(lane, name) {
  need(isObject(lane), `${name} has no request`);
  checkRequest(lane.request, name);
  need(typeof lane.method === "string" && STATUSES.includes(lane.status), `${name} has no method or status`);
  need(Array.isArray(lane.events) && isObject(lane.final) && Array.isArray(lane.final.choices), `${name} has no events`);
  const { choices, diagnostics, usage } = lane.final;
  const chains = lane.request.n ?? 1;
  need(choices.length <= chains && choices.every((choice) => isNone(choice, () => isChoice(choice, chains))), `${name} has a broken answer`);
  need(isNone(diagnostics, isVerdict), `${name} has broken diagnostics`);
  need(isNone(usage, () => isObject(usage) && isNone(usage.power, isCosts)), `${name} has broken usage`);
}

function checkRequest(request, name) {
  need(isObject(request) && isObject(request.power), `${name} has no request`);
  const { prompt, n, max_tokens: longest, seed, temperature, power } = request;
  need(typeof prompt === "string", `${name} has no prompt`);
  need(typeof power.method === "string", `${name} has no method`);
  need(isNone(n, () => isWhole(n, CHAINS) && n > 0), `${name} has an impossible number of chains`);
  need(isNone(longest, () => isWhole(longest, LONGEST)), `${name} has an impossible max_tokens`);
  need(isNone(seed, () => Number.isInteger(seed) || typeof seed === "bigint"), `${name} has an impossible seed`);
  const numbers = [temperature, power.alpha, power.cut_power, power.tries];
  need(numbers.every((value) => isNone(value, isNumber)), `${name} has an alpha, temperature, cut_power or tries that is no number`);
}

function isChoice(choice, chains) {
  if (!isObject(choice) || !isWhole(choice.index, chains - 1) || !isNone(choice.text, isString)) return false;
  return isNone(choice.power, () => isObject(choice.power) && isAnswer(choice.power));
}

function isAnswer({ ended_by: endedBy, token_ids: ids, log_p: log, stage, stages, dropped }) {
  const isIds = isNone(ids, () => Array.isArray(ids) && ids.length <= LONGEST && ids.every((id) => isWhole(id)));
  const isPlace = [stage, stages].every((value) => isNone(value, () => isWhole(value, STAGES)));
  return typeof endedBy === "string" && isIds && isPlace && isNone(log, isNumber) && isNone(dropped, isWhole);
}

function isVerdict(found) {
  if (!isObject(found) || !isWhole(found.chains)) return false;
  if (found.chains < 2) return true; // nothing is said of one
  const { distinct_answers: distinct, log_pi: mixing, reason } = found;
  if (!isWhole(distinct) || typeof reason !== "string" || !isObject(mixing)) return false;
  return isNone(mixing.r_hat, isNumber) && isNone(mixing.ess_bulk, isNumber);
}

function isCosts(power) {
  const counts = ["accepted", "steps", "moved", "generated_tokens", "free_tokens"];
  return isObject(power) && counts.every((name) => isWhole(power[name])) && isNone(power.cost_ratio, isNumber);
}

function isNone(value, isGood) {
  return value === null || value === undefined || isGood(value);
}

function isWhole(value, most = Number.MAX_SAFE_INTEGER) {
  return Number.isSafeInteger(value) && value >= 0 && value <= most;
}

function isNumber(value) {
  return Number.isFinite(value) && Math.abs(value) <= LARGEST;
}

function isString(value) {
  return typeof value === "string";
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function need(condition, message) {
  if (!condition) throw new BadRecording(`The recording is not complete: ${message}.`);
}
