// One run, and how it fails.

// The job fails. It is tried again by its policy, not before `retryAfter` seconds; never, if that is `final`.
export class Failed extends Error {
  constructor(type, detail, { title = "The handler failed", retryAfter, final } = {}) {
    super(detail);
    this.problem = { type, title, detail };
    this.headers = final ? { retry: "never" } : retryAfter ? { "retry-after-ms": Math.round(retryAfter * 1000) } : {};
  }
}

// A request that is held: taken, and not yet answered.
export class Run {
  #aborting = new AbortController();
  signal = this.#aborting.signal; // aborts when the handler is to stop
  takenAt = performance.now();
  n = 0;

  constructor(message, channel) {
    const { messageId: id, headers } = message.properties;
    Object.assign(this, { message, channel, id, headers, content: message.content });
  }

  // Tells how far it is. What is not sent when more is told is left out.
  progress(percent, message) {
    this.news = { signal: "progress", percent, message };
  }

  stop(result, reason) {
    this.stopped ??= { result, body: Buffer.alloc(0), headers: { reason } };
    this.abort();
  }

  abort() {
    this.#aborting.abort();
  }
}

// The latest of many ids.
export class Recent extends Set {
  add(id) {
    super.add(id);
    if (this.size > 4096) this.delete(this.values().next().value);
    return this;
  }
}
