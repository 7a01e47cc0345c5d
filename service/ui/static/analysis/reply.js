/** Shows an analysis's reply: warnings first, then its numbers as tables; long lists are counted, not poured out. */

import { el } from "../dom.js";
import { jsonWord, pretty } from "./json.js";

const SHORT = 12; // numbers of a list that are shown in full
const ROWS = 60; // rows of a table that are shown
const DEEPEST = 4;

/**
 * @param {object} reply
 * @param {string} text The reply as it came.
 * @returns {HTMLElement[]}
 */
export function replyView(reply, text) {
  const { warnings = [], ...rest } = reply;
  return [
    ...warnings.map(({ code, message }) => el("p", { class: "notice warn" }, el("b", {}, "Warning "), el("code", {}, code), `: ${message}`)),
    ...objectView(rest, 3),
    el("details", {}, el("summary", {}, "The reply as JSON"), raw(text)),
  ];
}

function raw(text) {
  const shown = el("pre", { class: "json", tabindex: "0", "aria-label": "JSON of the reply" }, pretty(JSON.parse(text)));
  return shown;
}

/** An object's plain fields as one table, then each of its nested fields under a heading. */
function objectView(object, level) {
  const fields = Object.entries(object).filter(([, value]) => value !== null && value !== undefined);
  const plain = fields.filter(([, value]) => inCell(value));
  const nested = fields.filter(([, value]) => !inCell(value));
  return [
    plain.length > 0 ? factTable(plain) : null,
    ...nested.map(([name, value]) => nestedView(name, value, level)),
  ].filter((part) => part !== null);
}

function nestedView(name, value, level) {
  const title = el(`h${Math.min(level, 6)}`, {}, words(name));
  if (level - 3 >= DEEPEST) return el("section", { class: "part" }, title, el("pre", {}, pretty(value)));
  if (isTable(value)) return el("section", { class: "part" }, title, recordTable(value, words(name)));
  if (Array.isArray(value)) {
    const items = value.slice(0, ROWS).map((item, at) => nestedView(`${name} ${at + 1}`, item, level + 1));
    return el("section", { class: "part" }, title, items, beyond(value.length));
  }
  return el("section", { class: "part" }, title, objectView(value, level + 1));
}

function factTable(fields) {
  const rows = fields.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, words(name)), el("td", {}, cell(value))));
  return el("div", { class: "scroll" }, el("table", { class: "facts" }, el("tbody", {}, rows)));
}

function recordTable(records, label) {
  const columns = [...new Set(records.flatMap((record) => Object.keys(record)))].filter((column) => records.some((record) => record[column] != null));
  const numeric = new Set(columns.filter((column) => records.every((record) => record[column] == null || isNumber(record[column]))));
  const cssClass = (column) => (numeric.has(column) ? "number" : null);
  const head = el("tr", {}, columns.map((column) => el("th", { scope: "col", class: cssClass(column) }, words(column))));
  const rows = records
    .slice(0, ROWS)
    .map((record) => el("tr", {}, columns.map((column) => el("td", { class: cssClass(column) }, record[column] == null ? "–" : cell(record[column])))));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", {}, el("thead", {}, head), el("tbody", {}, rows)),
    beyond(records.length),
  );
}

function beyond(count) {
  return count > ROWS ? el("p", { class: "soft" }, `… and ${count - ROWS} more, in the JSON below.`) : null;
}

function cell(value) {
  if (isNumber(value)) return el("span", { title: jsonWord(value) }, shortNumber(value));
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return listCell(value);
  return pretty(value);
}

function listCell(list) {
  if (list.length === 0) return "none";
  if (list.every(isPlain) && list.length <= SHORT) return list.map((item) => (isNumber(item) ? shortNumber(item) : String(item))).join(", ");
  const numbers = list.flat(Infinity).filter(isNumber).map(Number);
  if (list.every(isNumber)) return `${list.length} numbers, ${shortNumber(Math.min(...numbers))} to ${shortNumber(Math.max(...numbers))}`;
  if (list.length <= SHORT && numbers.length <= 4 * SHORT) return el("pre", {}, pretty(list));
  return `${list.length} ${list.every(Array.isArray) ? "rows" : "items"}`;
}

function isPlain(value) {
  return typeof value !== "object" || value === null;
}

function isNumber(value) {
  return typeof value === "number" || typeof value === "bigint";
}

function holdsObjects(value) {
  return Array.isArray(value) ? value.some(holdsObjects) : !isPlain(value);
}

function inCell(value) {
  return isPlain(value) || (Array.isArray(value) && !holdsObjects(value));
}

function isTable(value) {
  return Array.isArray(value) && value.length > 0 && value.every((item) => !isPlain(item) && !Array.isArray(item) && Object.values(item).every(inCell));
}

/** Six significant digits. */
export function shortNumber(value) {
  if (typeof value === "bigint" || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1e6 || size < 1e-4 ? value.toExponential(4) : String(Number(value.toPrecision(6)));
}

/** A field's name as words. */
function words(name) {
  return name.replaceAll("_", " ");
}
