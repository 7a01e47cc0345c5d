/** The fields of a request or reply, told from the service's own schema: kind, bounds, default, meaning. */

import { el } from "./dom.js";

const DEEPEST = 5;

/**
 * A description list of an object's fields.
 *
 * @param {object} document The OpenAPI document, to look references up in.
 * @param {object} schema Of the object.
 * @returns {HTMLElement}
 */
export function fieldList(document, schema, depth = 0) {
  const found = resolved(document, schema);
  const required = new Set(found.required ?? []);
  const fields = Object.entries(found.properties ?? {}).filter(([, field]) => depth === 0 || field.const === undefined);
  return el(
    "dl",
    { class: "fields" },
    fields.map(([name, field]) => {
      const defaulted = field.default === undefined || field.default === null ? null : field.default;
      return el(
        "div",
        {},
        el(
          "dt",
          {},
          el("code", {}, name),
          " ",
          el("span", { class: "soft" }, kindOf(document, field)),
          required.has(name) ? el("b", { class: "soft" }, " · required") : null,
        ),
        field.description ? el("dd", {}, field.description) : null,
        defaulted === null ? null : el("dd", { class: "soft" }, "Default: ", el("code", {}, JSON.stringify(defaulted))),
        depth < DEEPEST ? objectsIn(document, field).map((one) => inner(document, one, depth + 1)) : null,
      );
    }),
  );
}

function inner(document, schema, depth) {
  const fixed = Object.entries(schema.properties).find(([, field]) => field.const !== undefined);
  const title = fixed === undefined ? null : `${fixed[0]}: ${JSON.stringify(fixed[1].const)}`;
  const heading = title === null ? null : el("p", {}, el("code", {}, title));
  return el("dd", { class: "inner" }, heading, fieldList(document, schema, depth));
}

/** What a schema allows, in words, as "whole number from 1 to 100". */
export function kindOf(document, schema) {
  const found = resolved(document, schema);
  const kinds = alternatives(document, found);
  if (kinds !== null) {
    const words = kinds.map((kind) => kindOf(document, kind));
    return [...new Set(words.filter((word) => word !== "null"))].join(" or ");
  }
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.enum !== undefined) return found.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (found.type === "array") return `list${counted(found)} of ${kindOf(document, found.items ?? {})}`;
  if (found.type === "string") return `text${lengths(found)}`;
  if (found.type === "integer") return `whole number${range(found)}`;
  if (found.type === "number") return `number${range(found)}`;
  if (found.type === "boolean") return "true or false";
  return found.type ?? "anything";
}

/** The objects that a field may be or hold, which have fields of their own. */
function objectsIn(document, schema) {
  const found = resolved(document, schema);
  const kinds = alternatives(document, found);
  if (kinds !== null) return kinds.flatMap((kind) => objectsIn(document, kind));
  if (found.type === "array" && found.items) return objectsIn(document, found.items);
  return found.properties === undefined ? [] : [found];
}

function alternatives(document, schema) {
  return schema.anyOf ?? schema.oneOf ?? null;
}

/** A schema, looked up if it is a reference. */
export function resolved(document, schema) {
  let found = schema;
  while (found.$ref !== undefined) {
    found = found.$ref.split("/").slice(1).reduce((at, name) => at[name], document);
  }
  return found;
}

function range({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }) {
  if (minimum !== undefined && minimum === maximum) return ` ${number(minimum)}`;
  if (minimum !== undefined && maximum !== undefined) return ` from ${number(minimum)} to ${number(maximum)}`;
  const limits = [
    ["at least", minimum],
    ["above", exclusiveMinimum],
    ["at most", maximum],
    ["below", exclusiveMaximum],
  ];
  const said = limits.filter(([, limit]) => limit !== undefined).map(([word, limit]) => `${word} ${number(limit)}`);
  return said.length === 0 ? "" : ` ${said.join(", ")}`;
}

function counted({ minItems, maxItems }) {
  const said = span(minItems, maxItems);
  return said === null ? "" : ` (${said})`;
}

function lengths({ minLength, maxLength }) {
  const said = span(minLength, maxLength);
  return said === null ? "" : `, ${said} characters`;
}

function span(least, most) {
  if (most === undefined) return least ? `at least ${number(least)}` : null;
  if (least === most) return `exactly ${number(least)}`;
  return least === undefined ? `at most ${number(most)}` : `${number(least)} to ${number(most)}`;
}

function number(value) {
  const size = Math.abs(value);
  if (size < 1e6 && (value === 0 || size >= 1e-4)) return String(value);
  return value.toExponential().replace(/(\.\d\d)\d+/, "$1").replace("e+", "e");
}
