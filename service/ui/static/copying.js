/** Copies text to the clipboard. */

/**
 * Copy the text of an element of the page.
 *
 * Browsers give a page the clipboard only over HTTPS and on the machine itself; elsewhere the element's text is
 * selected and the old command tried, so that at worst the reader presses the keys.
 *
 * @returns {Promise<boolean>} Whether it was copied; if not, it is selected.
 */
export async function copyText(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}
