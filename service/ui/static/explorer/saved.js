/** The self-contained page: one recording, which lies in the page, and the viewer. Nothing is fetched. */

import { byId, el } from "../dom.js";
import { fromJson } from "./recording.js";
import { Viewer } from "./viewer.js";
import { visible } from "./words.js";

function begin() {
  const live = byId("live");
  const text = byId("recording").textContent;
  const viewer = new Viewer((said) => {
    live.textContent = said;
  });
  try {
    const recording = fromJson(text);
    const about = `${recording.model} · seed ${recording.request.seed} · ${recording.created ?? ""}`;
    byId("explorer").append(el("p", { class: "soft" }, visible(about), " ", saveLink(text)), viewer.element);
    viewer.open(recording, { atStart: true });
  } catch (error) {
    byId("explorer").append(el("p", { class: "notice bad", role: "alert" }, error.message));
  }
}

/** The recording as a file, which the explorer opens again. */
function saveLink(text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  return el("a", { href: address, download: "powercut-recording.json" }, "Save the JSON");
}

begin();
