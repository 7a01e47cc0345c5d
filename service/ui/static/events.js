/**
 * Reads server-sent events from a reply's body: `EventSource` can neither POST nor send a key.
 */

/** The connection ended before the stream was complete. `received` counts the events that came. */
export class Dropped extends Error {
  constructor(received, cause) {
    super("the connection ended before the answer was complete", { cause });
    Object.assign(this, { name: "Dropped", received });
  }
}

/**
 * The data of each event, until `[DONE]`.
 *
 * Lines may end in LF, CR or CRLF, and be cut anywhere by the network; comments and other fields are passed over.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @param {AbortSignal} [signal] With it an abort is told apart from a loss.
 * @throws {Dropped} If the body ends, or fails, before `[DONE]`; and an AbortError if `signal` ended it.
 */
export async function* readEvents(body, signal) {
  const reader = body.getReader();
  const parser = new Parser();
  let received = 0;
  try {
    for (;;) {
      const { done, value } = await next(reader, received, signal);
      if (done) throw new Dropped(received);
      for (const data of parser.push(value)) {
        if (data === "[DONE]") return;
        received += 1;
        yield data;
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // also when the consumer stops early: the service then frees the work
  }
}

async function next(reader, received, signal) {
  try {
    return await reader.read();
  } catch (error) {
    if (signal?.aborted || error.name === "AbortError") throw error;
    throw new Dropped(received, error);
  }
}

/** Bytes in, the data of whole events out. */
export class Parser {
  #decoder = new TextDecoder();
  #pending = [];
  #data = [];
  #afterCr = false;

  /** The data of the events that these bytes complete. */
  push(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    const events = [];
    let start = 0;
    for (let at = 0; at < text.length; at += 1) {
      const char = text[at];
      if (char !== "\n" && char !== "\r") {
        this.#afterCr = false;
        continue;
      }
      if (char === "\n" && this.#afterCr) {
        this.#afterCr = false; // the second half of CRLF
        start = at + 1;
        continue;
      }
      this.#afterCr = char === "\r";
      this.#pending.push(text.slice(start, at));
      start = at + 1;
      this.#line(this.#pending.join(""), events);
      this.#pending = [];
    }
    if (start < text.length) this.#pending.push(text.slice(start));
    return events;
  }

  #line(line, events) {
    if (line === "") {
      if (this.#data.length > 0) events.push(this.#data.join("\n"));
      this.#data = [];
    } else if (line.startsWith("data:")) {
      this.#data.push(line.slice(line[5] === " " ? 6 : 5));
    }
  }
}
