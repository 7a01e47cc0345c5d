/** Asks the reader for a key. */

import { el } from "./dom.js";

/**
 * @param {string} remark Why it is asked again, or "".
 * @returns {Promise<string|null>} The key; null if the reader closed the dialog.
 */
export function askForKey(remark) {
  return new Promise((resolve) => {
    const input = el("input", {
      id: "key-input",
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
      pattern: "\\s*[!-~]+\\s*", // a header holds nothing else
      title: "letters, digits and signs without spaces",
      "aria-describedby": "key-note key-remark",
    });
    const form = el(
      "form",
      {},
      el("h2", { id: "key-title" }, "This service needs a key"),
      el("p", { id: "key-note" }, "It is kept for this tab only, and sent to this service only."),
      el("p", { id: "key-remark", class: "error", role: "alert" }, remark ? `The service said: ${remark}.` : null),
      el("label", { for: "key-input" }, "Key"),
      input,
      el(
        "div",
        { class: "actions" },
        el("button", { type: "submit", class: "primary" }, "Use this key"),
        el("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"),
      ),
    );
    const dialog = el("dialog", { "aria-labelledby": "key-title", class: "key" }, form);
    let given = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      given = input.value.trim() || null;
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(given);
    });
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
