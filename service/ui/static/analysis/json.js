/**
 * JSON as text: printing it well, changing it without reading it, and finding a field in it.
 *
 * A request is sent as its text stands, since a number read and written again by a browser may have become another one.
 */

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const LINE = 88;

export { parse } from "../exact.js";

/** How JSON writes null, a boolean, a number or a string. */
export function jsonWord(value) {
  return typeof value === "bigint" ? String(value) : JSON.stringify(value);
}

/** How Python writes it. */
export function pythonWord(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return jsonWord(value);
}

/**
 * A value over several lines; what is short inside it, and every row of plain values, stays in one.
 *
 * @param {*} value
 * @param {function(*): string} [word] Writes plain values: `jsonWord` or `pythonWord`.
 */
export function pretty(value, word = jsonWord) {
  return isNested(value) && !Array.isArray(value) ? broken(value, word, "") : laid(value, word, "");
}

function laid(value, word, indent) {
  const flat = oneLine(value, word);
  const isRow = Array.isArray(value) && value.every((item) => !isNested(item));
  return !isNested(value) || isRow || indent.length + flat.length <= LINE ? flat : broken(value, word, indent);
}

function broken(value, word, indent) {
  const inner = `${indent}  `;
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((item) => laid(item, word, inner))
    : Object.entries(value).map(([name, item]) => `${word(name)}: ${laid(item, word, inner)}`);
  const [open, close] = isList ? "[]" : "{}";
  if (parts.length === 0) return open + close;
  return `${open}\n${parts.map((part) => inner + part).join(",\n")}\n${indent}${close}`;
}

function oneLine(value, word) {
  if (Array.isArray(value)) return `[${value.map((item) => oneLine(item, word)).join(", ")}]`;
  if (!isNested(value)) return word(value);
  return `{${Object.entries(value).map(([name, item]) => `${word(name)}: ${oneLine(item, word)}`).join(", ")}}`;
}

function isNested(value) {
  return typeof value === "object" && value !== null;
}

/** A valid text without its line ends and other space between words. */
export function minified(text) {
  return text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, (_, string) => string ?? "");
}

/** The text of an object with one field more, at its end, where it wins over one of the same name. */
export function withField(text, name, value) {
  const open = text.trimEnd().slice(0, -1).trimEnd();
  const comma = open.endsWith("{") ? "" : ", ";
  return `${open}${comma}${jsonWord(name)}: ${jsonWord(value)}}`;
}

/**
 * Where a field stands in a valid text.
 *
 * @param {string} text
 * @param {string} path Names and indices joined by dots, as the service names a field at fault.
 * @returns {{start: number, end: number}|null} Of its name, or of the item of an array; null if it is not there.
 */
export function placeOf(text, path) {
  const levels = []; // of each object and array around the token: its current name or index
  let isName = false;
  for (const match of text.matchAll(TOKEN)) {
    const token = match[0];
    const here = levels.at(-1);
    if (token === ":") isName = false;
    else if (token === ",") {
      if (here.isArray) here.at += 1;
      else isName = true;
    } else if (token === "}" || token === "]") {
      levels.pop();
      isName = false;
    } else {
      if (isName) here.at = JSON.parse(token);
      const stands = isName || here?.isArray;
      if (stands && levels.map(({ at }) => at).join(".") === path) {
        return { start: match.index, end: match.index + token.length };
      }
      isName = token === "{";
      if (token === "{" || token === "[") levels.push({ isArray: token === "[", at: token === "[" ? 0 : null });
    }
  }
  return null;
}
