/**
 * Talks to the service that sent this page: where it is, the reader's key, JSON calls and event streams.
 */

import { readEvents } from "./events.js";
import { jsonText, parse } from "./exact.js";
import { askForKey } from "./keydialog.js";

/** The service's root, wherever a proxy has put it: this file is at `<root>/ui/static/session.js`. */
const ROOT = new URL("../../", import.meta.url);
const KEY = "powercut.key";

/**
 * What the service, or the way to it, refused.
 *
 * `status` is HTTP's, or 0 if no reply came; `param` names the field at fault or is null; `code` and `type` are the
 * service's; `retryAfterS` is when to ask again, or null.
 */
export class ApiError extends Error {
  constructor(message, { status = 0, param = null, code = null, type = null, retryAfterS = null } = {}) {
    super(message);
    Object.assign(this, { name: "ApiError", status, param, code, type, retryAfterS });
  }
}

/** The absolute URL of a path of the service such as "v1/models"; a leading slash changes nothing. */
export function urlOf(path) {
  return new URL(path.replace(/^\/+/, ""), ROOT).href;
}

/** Whether this page has a key that it sends. */
export function hasKey() {
  return key() !== null;
}

/** Forget the key; the next call that needs one asks again. */
export function forgetKey() {
  keep(null);
}

/**
 * A reply of the service, asking for a key if one is needed.
 *
 * @param {string} path As "v1/models".
 * @param {{json?: *, body?: string, accept?: string, method?: string, signal?: AbortSignal}} [options] With `json`, or
 *   with `body`, which is JSON text that is sent as it stands, it is a POST.
 * @returns {Promise<Response>} A reply whose status is good.
 * @throws {ApiError} If it is not; and an AbortError if `signal` ended it.
 */
export async function call(path, options = {}) {
  for (let remark = ""; ; ) {
    const sent = key();
    const reply = await send(path, options, sent);
    if (reply.ok) return reply;
    const error = await errorOf(reply);
    if (reply.status !== 401) throw error;
    if (sent !== key()) continue; // somebody else asked meanwhile
    remark = sent === null ? "" : error.message;
    const given = await askOnce(remark, options.signal);
    if (given === null) throw error;
  }
}

/** The JSON of a reply; arguments and errors as `call`. */
export async function callJson(path, options = {}) {
  return (await call(path, { accept: "application/json", ...options })).json();
}

/**
 * The JSON objects of a streamed reply to a POST, as they come. Ends after `[DONE]`.
 *
 * @throws {ApiError} For an error instead of a reply or within the stream.
 * @throws {Dropped} If the connection ends before the stream says that it is complete.
 */
export async function* stream(path, json, { signal } = {}) {
  const reply = await call(path, { json, accept: "text/event-stream", signal });
  for await (const data of readEvents(reply.body, signal)) {
    const chunk = parse(data);
    if (chunk.error !== undefined) throw new ApiError(chunk.error.message, chunk.error);
    yield chunk;
  }
}

/** The names that the service serves: the model, then its alias for each method. */
export async function models(options = {}) {
  return (await callJson("v1/models", options)).data;
}

async function send(path, options, sentKey) {
  const { json, accept, method, signal } = options;
  const body = options.body ?? (json === undefined ? undefined : jsonText(json));
  const headers = new Headers();
  if (accept !== undefined) headers.set("Accept", accept);
  if (sentKey !== null) headers.set("Authorization", `Bearer ${sentKey}`);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  try {
    return await fetch(urlOf(path), {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers,
      body,
      signal,
      cache: "no-store",
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the service cannot be reached");
  }
}

async function errorOf(reply) {
  const retry = Number(reply.headers.get("Retry-After"));
  const facts = { status: reply.status, retryAfterS: retry > 0 ? retry : null };
  const text = await reply.text().catch(() => "");
  try {
    const { message, type, param, code } = JSON.parse(text).error;
    return new ApiError(String(message), { ...facts, type, param, code });
  } catch {
    // Not the service's own words: a proxy in between, perhaps.
    return new ApiError(`HTTP ${reply.status} ${reply.statusText}`.trim(), facts);
  }
}

let asking = null;

/** One dialog for all calls that wait for a key; null if the reader closed it. */
function askOnce(remark, signal) {
  asking ??= askForKey(remark)
    .then((given) => {
      if (given !== null) keep(given);
      return given;
    })
    .finally(() => {
      asking = null;
    });
  return signal === undefined ? asking : Promise.race([asking, aborted(signal)]);
}

function aborted(signal) {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

// The key lives as long as the tab, and is never in an address; where storage is forbidden, as long as the page.
let kept = null;

function key() {
  try {
    return sessionStorage.getItem(KEY) ?? kept;
  } catch {
    return kept;
  }
}

function keep(value) {
  kept = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // Kept above.
  }
}
