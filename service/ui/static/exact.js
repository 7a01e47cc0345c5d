/** JSON in which whole numbers stay as they are written: a seed has up to 64 bits, a number of a browser keeps 53. */

/** Somewhere a number of 16 digits or more begins; or it looks so within a string, which only costs time. */
const LONG = /(?:^|[:,[\s])-?\d{16}/;

/** The value of a text; whole numbers beyond 2^53 become BigInt where the browser tells how they were written. */
export function parse(text) {
  return LONG.test(text) ? JSON.parse(text, unrounded) : JSON.parse(text);
}

function unrounded(_, value, context) {
  const source = context?.source;
  const isRounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
  return isRounded && /^-?\d+$/.test(source ?? "") ? BigInt(source) : value;
}

/** A value as JSON in one line, a BigInt as the whole number that it is. */
export function jsonText(value) {
  return JSON.stringify(value, (_, item) => (typeof item === "bigint" ? JSON.rawJSON(String(item)) : item));
}
