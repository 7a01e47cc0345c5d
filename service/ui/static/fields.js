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
  return el(
    "dl",
    { class: "fields" },
    Object.entries(found.properties ?? {}).map(([name, field]) => {
      const defaulted = field.default === undefined || field.default === null ? null : field.default;
      return el(
        "div",
        {},
        el(
          "dt",
          {},
          el("code", {}, name),
          " ",
          el("span", { class: "soft" }, kindOf(document, field), required.has(name) ? el("b", {}, " · required") : null),
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
  const title = fixed === undefined ? null : el("p", {}, el("code", {}, `${fixed[0]}: ${JSON.stringify(fixed[1].const)}`));
  return el("dd", { class: "inner" }, title, fieldList(document, schema, depth));
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
  if (found.type === "array") return `list${counted(found)} of: ${found.items ? kindOf(document, found.items) : "anything"}`;
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
  if (minimum !== undefined && maximum === minimum) return ` ${number(minimum)}`;
  if (minimum !== undefined && maximum !== undefined) return ` from ${number(minimum)} to ${number(maximum)}`;
  const low = minimum !== undefined ? `at least ${number(minimum)}` : exclusiveMinimum !== undefined ? `above ${number(exclusiveMinimum)}` : null;
  const high = maximum !== undefined ? `at most ${number(maximum)}` : exclusiveMaximum !== undefined ? `below ${number(exclusiveMaximum)}` : null;
  const both = [low, high].filter((part) => part !== null).join(", ");
  return both === "" ? "" : ` ${both}`;
}

function counted({ minItems, maxItems }) {
  return bounds(minItems, maxItems);
}

function lengths({ minLength, maxLength }) {
  const said = bounds(minLength, maxLength);
  return said === "" ? "" : `${said} characters`;
}

function bounds(least, most) {
  if (most === undefined) return least ? ` of at least ${number(least)}` : "";
  return least === undefined ? ` of at most ${number(most)}` : ` of ${number(least)} to ${number(most)}`;
}

function number(value) {
  return Math.abs(value) >= 1e7 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential().replace(/(\.\d\d)\d+/, "$1").replace("e+", "e") : String(value);
}
