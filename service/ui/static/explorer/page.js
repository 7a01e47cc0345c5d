/** The empty self-contained page, asked for once and early: a run may be saved after the service has gone. */

import { call } from "../session.js";

let asked = null;

/** Its text. A failure is forgotten, so that the next call asks again. */
export function callPage() {
  asked ??= call("ui/saved.html").then((reply) => reply.text());
  asked.catch(() => {
    asked = null;
  });
  return asked;
}
