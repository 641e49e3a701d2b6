// A worker's runs: from a request to its outcome. docs/guides/worker-over-amqp.md says why each step.
import { setTimeout as sleep } from "node:timers/promises";
import { Failed, Recent, Run } from "./run.mjs";
import { Wire } from "./wire.mjs";

const drain = millis(process.env.BUZZER_DRAIN ?? "30s"); // so long runs go on after SIGTERM
const cancelGrace = 3000; // and so long after they were asked to stop
const maxBody = 1 << 20; // bytes of an output, as the API's BUZZER_MAX_BODY has it

export class Runs {
  held = new Map();
  #answered = new Recent();
  #canceled = new Recent();
  #line = []; // who waits for slots

  constructor(kind, handler) {
    Object.assign(this, { kind, handler, free: kind.slots, wire: new Wire(kind, this) });
  }

  // Until SIGTERM; then finishes what it has, or hands it back.
  async live() {
    this.wire.keep();
    await new Promise((resolve) => ["SIGTERM", "SIGINT"].forEach((name) => process.once(name, resolve)));
    await this.wire.stop();
    for (const patience of [drain, 5000]) {
      const until = performance.now() + patience;
      while (this.held.size > 0 && performance.now() < until) await sleep(50);
      for (const run of this.held.values()) run.stop("returned", "stopping");
    }
    await this.wire.beat(true).catch(() => {});
    process.exit();
  }

  // A cancel may come before its request.
  cancel(ids) {
    for (const id of ids) this.held.has(id) ? this.held.get(id).stop("canceled") : this.#canceled.add(id);
  }

  async receive(message, channel) {
    const { messageId } = message.properties;
    const run = this.held.get(messageId);
    if (run?.message) {
      Object.assign(run, { message, channel }); // delivered again: its run goes on, and answers for this one now
    } else if (run || this.#answered.has(messageId)) {
      acknowledge(channel, message); // only its acknowledgement was lost
    } else if (this.#flaw(message)) {
      const reason = { "parked-from": this.wire.queue, "parked-reason": this.#flaw(message) };
      await this.wire.handOver("", "request", message.content, { headers: reason, exchange: "parking" });
      acknowledge(channel, message);
    } else {
      await this.#serve(new Run(message, channel));
    }
  }

  // Why it cannot be run, if it cannot.
  #flaw({ properties: { type, messageId, headers = {} } }) {
    if (type !== "buzzer.request.v1" || headers.kind !== this.kind.name) return `no request for ${this.kind.name}`;
    if (!messageId) return "its message_id is missing";
    const missing = ["dispatch", "attempt", "timeout-ms"].find((name) => !Number.isInteger(headers[name]));
    return missing && `its header ${missing} is missing, or no number`;
  }

  async #serve(run) {
    this.held.set(run.id, run);
    if (run.headers["x-delivery-count"] >= 2 && !run.headers.alone) run.stop("returned", "suspect");
    if (this.#canceled.has(run.id)) run.stop("canceled");
    if (this.wire.stopping) run.stop("returned", "stopping");
    const slots = run.headers.alone ? this.kind.slots : 1; // a suspect takes all, so that nothing runs beside it
    const turn = !run.stopped && (await this.#turn(run, slots));
    let ended = turn ? await this.#work(run) : run.stopped;
    if (run.stopped && ended.result !== "succeeded") ended = run.stopped; // a success counts: the work was done
    const headers = { ...ended.headers, result: ended.result, "started-at-ms": run.startedAt };
    await this.wire.handOver("outcome", "outcome", ended.body, { run, headers });
    this.#answered.add(run.id);
    this.held.delete(run.id);
    if (run.message) acknowledge(run.channel, run.message);
    if (turn) this.free += slots;
    this.#admit();
  }

  // Stands in line for slots. Whether it got them: it may be stopped before.
  #turn(run, slots) {
    return new Promise((go) => {
      const place = { slots, go };
      this.#line.push(place);
      run.signal.addEventListener("abort", () => {
        const at = this.#line.indexOf(place);
        if (at >= 0) this.#line.splice(at, 1)[0].go(false);
      });
      this.#admit();
    });
  }

  #admit() {
    while (this.#line[0]?.slots <= this.free) {
      this.free -= this.#line[0].slots;
      this.#line.shift().go(true);
    }
  }

  async #work(run) {
    const { alone, "timeout-ms": limit, "expires-in-ms": expires = Infinity } = run.headers;
    if (performance.now() - run.takenAt >= expires) run.stop("returned", "expired");
    if (run.stopped) return run.stopped;
    run.startedAt = Date.now();
    if (alone) await this.#acknowledgeEarly(run);
    // A run that ends sooner says it all with its outcome.
    const starting = alone ? undefined : setTimeout(() => this.#signal(run, { signal: "started" }), 50);
    const telling = setInterval(() => run.news && this.#signal(run, run.news), 125); // ten a second are taken at most
    const over = new AbortController();
    const after = (millis) => sleep(millis, undefined, { signal: over.signal });
    const stopped = new Promise((resolve) => run.signal.addEventListener("abort", resolve));
    try {
      const output = await Promise.race([
        Promise.resolve(JSON.parse(run.content)).then((input) => this.handler(run, input)),
        after(limit).then(() => Promise.reject(new Failed("/problems/timeout", `It took more than ${limit} ms.`))),
        stopped.then(() => after(cancelGrace)).then(() => Promise.reject(new Error("it was stopped"))),
      ]);
      const body = Buffer.from(JSON.stringify(output));
      if (body.length <= maxBody) return { result: "succeeded", body };
      const detail = `The output has ${body.length} bytes; at most ${maxBody} are taken.`;
      throw new Failed("/problems/output-too-large", detail, { final: true });
    } catch (error) {
      const { problem, headers } = error instanceof Failed ? error : new Failed("/problems/failed", String(error));
      return { result: "failed", body: problem, headers };
    } finally {
      clearTimeout(starting);
      clearInterval(telling);
      over.abort();
      run.abort();
    }
  }

  // Should it bring us down, it is not delivered to the next: from now on it lives on our beats.
  async #acknowledgeEarly(run) {
    const headers = { "at-ms": run.startedAt, charged: true };
    await this.wire.handOver("outcome", "started", {}, { run, headers });
    const { message, channel } = run;
    run.message = undefined;
    acknowledge(channel, message);
    // Any answer on its channel tells that the broker has the acknowledgement.
    await Promise.resolve().then(() => channel.prefetch(this.kind.slots)).catch(() => {});
  }

  #signal(run, body) {
    if (body === run.news) run.news = undefined;
    const headers = { n: ++run.n, "at-ms": Date.now() };
    this.wire.publish("signal", "signal", body, { run, headers }).catch(() => {}); // it may be lost
  }
}

function millis(text) {
  const [, number, unit] = /^(\d+)(ms|s|m|h)$/.exec(text) ?? [];
  if (unit) return number * { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[unit];
  console.error(`BUZZER_DRAIN: ${JSON.stringify(text)} is not a time, like 30s or 5m`);
  process.exit(2);
}

function acknowledge(channel, message) {
  try {
    channel.ack(message);
  } catch {} // its channel is gone: then the request comes again, and is known
}
