/** The page of the analyses: choose one, change its example, run it, see its reply and picture, copy the call. */

import { byId, el, fill } from "../dom.js";
import { callJson } from "../session.js";
import { Bench } from "./bench.js";

async function start() {
  const { data } = await callJson("v1/analysis");
  const bench = new Bench();
  const links = new Map(data.map((one) => [one.name, el("a", { href: `#${one.name}` }, one.name)]));
  fill(byId("analyses"), groups(data).map(([paper, members]) => group(paper, members, links)));
  const show = () => {
    const name = decodeURIComponent(location.hash.slice(1));
    const chosen = data.find((one) => one.name === name) ?? data.find((one) => !one.job_only);
    for (const [each, link] of links) {
      if (each === chosen.name) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    byId("chosen").textContent = chosen.name;
    if (narrow.matches) byId("chooser").open = false;
    bench.show(chosen);
    document.title = `${chosen.name} · Analysis · powercut`;
  };
  window.addEventListener("hashchange", show);
  show();
}

/** Analyses of one paper stand together, in the order of the list. */
function groups(data) {
  const found = new Map();
  for (const one of data) found.set(one.paper.title, [...(found.get(one.paper.title) ?? []), one]);
  return [...found];
}

function group(paper, members, links) {
  return el("li", {}, el("small", {}, paper), el("ul", {}, members.map((one) => el("li", {}, links.get(one.name)))));
}

// Beside the bench the list is always open; above it, on a narrow window, it opens to choose.
const narrow = matchMedia("(max-width: 60rem)");
function fold() {
  byId("chooser").open = !narrow.matches;
}
narrow.addEventListener("change", fold);
fold();

start().catch((error) => {
  byId("failed").textContent = `The list of analyses did not come: ${error.message}. Reload the page to try again.`;
});
