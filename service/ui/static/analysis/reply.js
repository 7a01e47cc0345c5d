/** Shows an analysis's reply: warnings first, then its numbers as tables; long lists are counted, not poured out. */

import { el } from "../dom.js";
import { jsonWord, pretty } from "./json.js";

const SHORT = 12; // numbers of a list that are shown in full
const PROSE = 24; // characters from which a text is a sentence that needs room
const ROWS = 60; // rows of a table that are shown
const NARROW = 4; // columns of a table that has room beside others
const DEEPEST = 4;
const HEADING = 4; // level of the first headings: the page has three above them
const FEW = 4; // plain fields of an object that fit a cell

/**
 * @param {object} reply
 * @returns {HTMLElement[]}
 */
export function replyView(reply) {
  const { warnings = [], ...rest } = reply;
  return [
    ...warnings.map(warningView),
    ...objectView(rest, HEADING),
    el(
      "details",
      {},
      el("summary", {}, "The reply as JSON"),
      el("pre", { class: "json", tabindex: "0" }, pretty(reply)),
    ),
  ];
}

function warningView({ code, message }) {
  return el("p", { class: "notice warn" }, el("b", {}, "Warning "), el("code", {}, code), `: ${message}`);
}

/** An object's plain fields as one table, then each of its nested fields under a heading. */
function objectView(object, level) {
  const fields = Object.entries(object).filter(([, value]) => value !== null && value !== undefined);
  const plain = fields.filter(([, value]) => inCell(value));
  const nested = fields.filter(([, value]) => !inCell(value));
  return [plain.length > 0 ? factTable(plain) : null, ...nested.map(([name, value]) => nestedView(name, value, level))];
}

function nestedView(name, value, level) {
  const title = el(`h${Math.min(level, 6)}`, {}, words(name));
  if (level - HEADING >= DEEPEST) return el("section", { class: "part" }, title, el("pre", {}, pretty(value)));
  if (isTable(value)) return recordPart(value, title, words(name));
  if (Array.isArray(value)) {
    const items = value.slice(0, ROWS).map((item, at) => nestedView(`${name} ${at + 1}`, item, level + 1));
    return el("section", { class: "part" }, title, el("div", { class: "parts" }, items), beyond(value.length));
  }
  return el("section", { class: "part" }, title, el("div", { class: "parts" }, objectView(value, level + 1)));
}

function factTable(fields) {
  const rows = fields.map(([name, value]) => {
    return el("tr", {}, el("th", { scope: "row" }, words(name)), el("td", {}, cell(value)));
  });
  return el("table", { class: "facts" }, el("tbody", {}, rows));
}

function recordPart(records, title, label) {
  const columns = columnsOf(records);
  const head = columns.map(({ name, css }) => el("th", { scope: "col", class: css }, words(name)));
  const rows = records.slice(0, ROWS).map((record) => {
    const cells = columns.map(({ name, css }) => el("td", { class: css }, cell(record[name] ?? "–")));
    return el("tr", {}, cells);
  });
  const table = el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  const box = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
  return el("section", { class: columns.length > NARROW ? "part broad" : "part" }, title, box, beyond(records.length));
}

/** The fields that any record has a value of; numbers stand to the right. */
function columnsOf(records) {
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
  return names
    .map((name) => ({ name, values: records.map((record) => record[name]).filter((value) => value != null) }))
    .filter(({ values }) => values.length > 0)
    .map(({ name, values }) => ({ name, css: values.every(isNumber) ? "number" : null }));
}

function beyond(count) {
  return count > ROWS ? el("p", { class: "soft" }, `… and ${count - ROWS} more, in the JSON below.`) : null;
}

function cell(value) {
  if (isNumber(value)) return el("span", { title: jsonWord(value) }, shortNumber(value));
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value.length > PROSE ? el("div", { class: "prose" }, value) : value;
  if (Array.isArray(value)) return listCell(value);
  return Object.entries(value)
    .filter(([, part]) => part !== null)
    .map(([name, part]) => `${words(name)} ${isNumber(part) ? shortNumber(part) : part}`)
    .join(", ");
}

function listCell(list) {
  if (list.length === 0) return "none";
  if (list.some((item) => typeof item === "string" && item.length > PROSE)) {
    return el("ul", { class: "prose" }, list.map((item) => el("li", {}, item)));
  }
  if (list.every(isPlain) && list.length <= SHORT) return list.map(plainWord).join(", ");
  const numbers = list.flat(Infinity).filter(isNumber).map(Number);
  if (list.every(isNumber)) {
    const ends = [Math.min(...numbers), Math.max(...numbers)].map(shortNumber).join(" to ");
    return `${list.length} numbers, ${ends}`;
  }
  if (list.length <= SHORT && numbers.length <= 4 * SHORT) return el("pre", {}, pretty(list, shortWord));
  return `${list.length} ${list.every(Array.isArray) ? "rows" : "items"}`;
}

function plainWord(item) {
  return isNumber(item) ? shortNumber(item) : String(item);
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
  if (isPlain(value)) return true;
  if (Array.isArray(value)) return !holdsObjects(value);
  return Object.keys(value).length <= FEW && Object.values(value).every(isPlain);
}

function isTable(value) {
  const isRecord = (item) => !isPlain(item) && !Array.isArray(item) && Object.values(item).every(inCell);
  return Array.isArray(value) && value.length > 0 && value.every(isRecord);
}

function shortWord(value) {
  return isNumber(value) ? shortNumber(value) : jsonWord(value);
}

/** Six significant digits. */
function shortNumber(value) {
  if (typeof value === "bigint" || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1e6 || size < 1e-4 ? value.toExponential(4) : String(Number(value.toPrecision(6)));
}

/** A field's name as words. */
function words(name) {
  return name.replaceAll("_", " ");
}
