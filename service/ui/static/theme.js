/**
 * The colours of the page: as the system has them, or light or dark as the reader chose.
 *
 * A plain script at the head of each page, not a module, so that the choice holds before anything is painted. The
 * choice is kept for this browser; where that is forbidden, it holds for the page.
 */
(() => {
  "use strict";
  const KEY = "powercut.theme";
  const CHOICES = ["automatic", "light", "dark"];

  function stored() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "automatic";
    } catch {
      return "automatic";
    }
  }

  function store(choice) {
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Storage may be forbidden: the choice then holds for this page only.
    }
  }

  function show(choice) {
    const root = document.documentElement;
    if (choice === "automatic") delete root.dataset.theme;
    else root.dataset.theme = choice;
  }

  let choice = stored();
  show(choice);

  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("button[data-theme-switch]")) {
      const tell = () => {
        button.textContent = `Theme: ${choice}`;
      };
      button.hidden = false; // without scripts there is nothing to switch
      tell();
      button.addEventListener("click", () => {
        choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
        store(choice);
        show(choice);
        tell();
      });
    }
  });
})();
