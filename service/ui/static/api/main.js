/** The page of the API: every route of the service's schema, with its fields. */

import { byId, el, fill } from "../dom.js";
import { fieldList, kindOf, resolved } from "../fields.js";
import { callJson } from "../session.js";

async function start() {
  const document = await callJson("openapi.json");
  const routes = Object.entries(document.paths).flatMap(([path, operations]) => {
    return Object.entries(operations).map(([method, operation]) => route(document, path, method, operation));
  });
  fill(byId("routes"), routes);
}

/** A route, folded; its fields are written when it is first opened. */
function route(document, path, method, operation) {
  const inside = el("div", { class: "stack" });
  const title = el("summary", {}, el("b", { class: "method" }, method.toUpperCase()), " ", el("code", {}, path));
  const said = el("span", { class: "soft" }, operation.summary ?? "");
  title.append(el("br"), said);
  const folded = el("details", { class: "card" }, title, inside);
  folded.addEventListener("toggle", () => {
    if (inside.childElementCount === 0) fill(inside, parts(document, operation));
  });
  return folded;
}

function parts(document, operation) {
  const { description, parameters = [], requestBody, responses } = operation;
  const body = Object.entries(requestBody?.content ?? {}).map(([media, { schema }]) => {
    return [el("h2", {}, "Request ", el("small", {}, media)), fields(document, schema)];
  });
  const good = Object.entries(responses?.["200"]?.content ?? {}).map(([media, { schema }]) => {
    return [el("h2", {}, "Reply ", el("small", {}, media)), fields(document, schema ?? {})];
  });
  return [
    description === undefined ? null : el("p", {}, description),
    parameters.length === 0 ? null : [el("h2", {}, "Parameters"), parameterList(document, parameters)],
    body,
    good,
    el("h2", {}, "Statuses"),
    el("ul", {}, Object.entries(responses ?? {}).map(statusItem)),
  ];
}

function statusItem([status, { description }]) {
  return el("li", {}, el("code", {}, status), ` ${description}`);
}

function parameterList(document, parameters) {
  const entries = parameters.map(({ name, schema, description }) => [name, { description, ...schema }]);
  const properties = Object.fromEntries(entries);
  const required = parameters.filter((one) => one.required).map(({ name }) => name);
  return fieldList(document, { properties, required });
}

function fields(document, schema) {
  const found = resolved(document, schema);
  return found.properties === undefined ? el("p", {}, kindOf(document, found)) : fieldList(document, found);
}

start().catch((error) => {
  byId("failed").textContent = `The schema did not come: ${error.message}. Reload the page to try again.`;
});
