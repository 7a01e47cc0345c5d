/** The fields of the form, and what the service allows in them. */

import { LONGEST } from "./replay.js";

const SEED_BITS = 64;

/** Fields by the API's names; `path` is where the request has it and where an error of the API points. */
export const FIELDS = [
  { path: "power.alpha", label: "α, the power", value: 4, step: "any", hint: "how much likelier answers are preferred" },
  { path: "power.cut_power", label: "β, sharpness of cuts", value: 4, step: "any", hint: "0 cuts anywhere alike", methods: ["entropy_cut", "multiple_try"] },
  { path: "power.blocks", label: "Blocks", value: 4, hint: "stages, each with a longer horizon" },
  { path: "power.steps_per_block", label: "Steps per block", value: 6, hint: "redraws in each stage" },
  { path: "max_tokens", label: "Longest answer", value: 48, hint: "tokens" },
  { path: "seed", label: "Seed", value: 1, hint: "empty: a new one" },
  { path: "n", label: "Chains", value: 1, hint: "4 or more for R-hat" },
  { path: "power.top_k", label: "Support, top k", value: 50, hint: "empty: the whole vocabulary" },
  { path: "power.tries", label: "Tries", value: 4, hint: "endings drawn at each cut", methods: ["multiple_try"] },
];

/**
 * The bounds of each field out of the service's schema.
 *
 * @returns {Object<string, {least?: number, most?: number}>} By path.
 */
export function boundsOf(schema) {
  const schemas = schema.components.schemas;
  const found = {};
  for (const { path } of FIELDS) {
    const name = path.split(".").at(-1);
    const property = schemas[path.startsWith("power.") ? "PowerOptions" : "CompletionRequest"]?.properties?.[name];
    const kind = (property?.anyOf ?? [property ?? {}]).find((each) => each.type === "integer" || each.type === "number") ?? {};
    found[path] = { least: kind.minimum, most: kind.maximum };
  }
  return found;
}

/** The request of a form: `values` by path, as texts. A new seed is drawn here, so that a run can be repeated. */
export function requestOf(model, method, prompt, values, early) {
  const request = { model, prompt, power: { method, early_rejection: early } };
  for (const { path, methods } of FIELDS) {
    if (methods && !methods.includes(method)) continue;
    const value = valueOf(path, values[path].trim());
    if (value === undefined) continue;
    if (path.startsWith("power.")) request.power[path.slice("power.".length)] = value;
    else request[path] = value;
  }
  return request;
}

/** A field that no request can be made of; like the service's own errors it names the field. */
export class FieldError extends Error {
  constructor(param, message) {
    super(`${param}: ${message}`);
    Object.assign(this, { name: "FieldError", param });
  }
}

function valueOf(path, text) {
  if (path === "seed") return text === "" ? newSeed() : seedOf(text);
  if (path === "max_tokens" && Number(text) > LONGEST) {
    throw new FieldError(path, `this page shows answers of at most ${LONGEST.toLocaleString("en")} tokens`);
  }
  if (text !== "") return Number.isFinite(Number(text)) ? Number(text) : text;
  return path === "power.top_k" ? null : undefined;
}

/** A seed exactly: as a BigInt where a number would round it. */
function seedOf(text) {
  if (Number.isSafeInteger(Number(text))) return Number(text);
  const seed = /^-?\d+$/.test(text) ? BigInt(text) : null;
  if (seed === null || seed !== BigInt.asIntN(SEED_BITS, seed)) {
    throw new FieldError("seed", "a whole number of 64 bits, from −2^63 to 2^63 − 1");
  }
  return seed;
}

function newSeed() {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return (high % (1 << 20)) * 2 ** 32 + low;
}
