/**
 * Makers of elements. Text goes in as text nodes only: nothing that a model or a server says is ever read as HTML.
 */

const SVG = "http://www.w3.org/2000/svg";
const FORBIDDEN = /^(on.*|style|srcdoc)$/i; // the page's policy forbids them

/**
 * An HTML element.
 *
 * @param {string} name Of the element, as "p".
 * @param {Object<string, *>} [given] `class`, `dataset` (an object), `on` (an object of listeners), a property that is
 *   not text (as `hidden: true`), or an attribute; null, undefined and false leave an attribute out.
 * @param {...(Node|string|number|null|undefined|Array)} children Elements and texts.
 * @returns {HTMLElement}
 */
export function el(name, given = {}, ...children) {
  return filled(document.createElement(name), given, children);
}

/** An SVG element; arguments as `el`. */
export function svg(name, given = {}, ...children) {
  return filled(document.createElementNS(SVG, name), given, children);
}

/** Put these children, and no others, into an element. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** The element of an id; an error if the page lacks it. */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element #${id}`);
  return element;
}

function filled(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "on") listen(element, value);
    else if (FORBIDDEN.test(name)) throw new Error(`${name} is not set by attribute`);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

function listen(element, listeners) {
  for (const [event, listener] of Object.entries(listeners)) element.addEventListener(event, listener);
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}
