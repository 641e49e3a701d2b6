// A worker's line to the broker: what it is told, what it says. docs/guides/worker-over-amqp.md says why each step.
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import amqp from "amqplib";

const broker = new URL(process.env.BUZZER_BROKER ?? "amqp://guest:guest@127.0.0.1:5672/%2f");
broker.searchParams.set("heartbeat", "10");
const user = decodeURIComponent(broker.username) || "guest";
const prefix = process.env.BUZZER_PREFIX ?? "buzzer";
const deadline = 10_000; // RabbitMQ promises no time for its answers, and some never come

export class Wire {
  id = randomUUID();
  startedAt = new Date().toISOString();
  stopping = false;
  #leave = async () => {};
  #returned = new Set(); // ids of messages that no queue took

  // `runs` holds the runs, and is told of requests and cancels.
  constructor(kind, runs) {
    this.kind = kind;
    this.runs = runs;
    this.queue = `${prefix}.requests.${kind.name}.v1`;
  }

  // For ever, over one line after the other. Runs go on meanwhile, and their outcomes wait for the next.
  async keep() {
    for (;;) {
      const connections = [];
      await this.#line(connections).catch((error) => console.error(`the line to the broker broke: ${error.message}`));
      for (const connection of connections) connection.close().catch(() => {});
      await sleep(200 + 2800 * Math.random());
    }
  }

  async #line(connections) {
    let broke;
    const broken = new Promise((_, reject) => (broke = reject));
    const watch = (part) => part.on("error", broke).on("close", () => broke(new Error("it was closed")));
    // Two connections: from one that publishes, a broker under an alarm reads nothing, no acknowledgements either.
    for (let n = 0; n < 2; n++) connections.push(watch(await amqp.connect(broker.href, { timeout: deadline })));
    const [out, back] = connections;
    const using = async () => {
      this.publishing = watch(await out.createConfirmChannel());
      this.publishing.on("return", ({ properties }) => this.#returned.add(properties.messageId));
      const hearing = watch(await back.createChannel());
      const control = `${prefix}.control.${this.id}`;
      await hearing.assertQueue(control, { exclusive: true, autoDelete: true, durable: false });
      await hearing.bindQueue(control, `${prefix}.control`, "");
      await hearing.consume(control, (message) => this.#obey(message).catch(broke), { noAck: true });
      console.error(`connected, for jobs of ${this.kind.name}`);
      await Promise.all([this.#pulse(), this.#take(back, watch, broke)]);
    };
    await Promise.race([broken, using()]);
  }

  async #pulse() {
    const line = this.publishing;
    for (let beats = 0; line === this.publishing; beats++) {
      if (beats % 6 === 0) await this.announce();
      await this.beat();
      await sleep(5000);
    }
  }

  announce() {
    const kinds = this.stopping ? [] : [this.kind];
    const who = { worker: this.id, host: hostname(), version: "1.0.0", started_at: this.startedAt };
    return this.publish("pulse", "announce", { ...who, kinds });
  }

  beat(leaving = false) {
    return this.publish("pulse", "beat", { worker: this.id, held: [...this.runs.held.keys()], leaving });
  }

  async #obey(message) {
    const word = JSON.parse(message.content);
    if (word.control === "cancel") this.runs.cancel(word.runs);
    if (word.control === "announce") await Promise.all([this.announce(), this.beat()]);
    if (word.control === "refused" && word.worker === this.id) console.error("its kind is not taken:", word.kinds);
  }

  // Consumes from the queue of the kind, until the worker is to stop.
  async #take(connection, watch, broke) {
    while (!this.stopping) {
      const channel = await connection.createChannel();
      channel.on("error", () => {});
      await channel.prefetch(this.kind.slots);
      // None comes when the queue was deleted: the next announcement brings it back.
      const receive = (message) => (message ? this.runs.receive(message, channel) : broke(new Error("no queue")));
      try {
        const { consumerTag } = await channel.consume(this.queue, receive);
        watch(channel);
        this.#leave = () => channel.cancel(consumerTag);
        return;
      } catch (error) {
        if (error.code !== 404) throw error;
        await sleep(500); // the API makes it once it has heard the announcement
      }
    }
  }

  // Takes nothing more, and says so.
  async stop() {
    this.stopping = true;
    await Promise.all([this.announce(), this.#leave()]).catch(() => {}); // a line that is broken takes nothing anyway
  }

  // Ends once the broker has confirmed it. `body` is bytes, or what becomes JSON.
  publish(key, type, body, { run, headers = {}, exchange = "replies", mandatory = false } = {}) {
    const about = run ? { worker: this.id, dispatch: run.headers.dispatch } : {};
    const options = {
      type: `buzzer.${type}.v1`,
      contentType: "application/json",
      persistent: true,
      mandatory,
      userId: user,
      messageId: run?.id,
      correlationId: run?.id.split("/")[0],
      headers: { ...about, ...headers },
    };
    const content = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("the broker did not answer")), deadline);
      const confirmed = (error) => {
        clearTimeout(late);
        if (error) reject(error);
        else if (mandatory && this.#returned.delete(run?.id)) reject(new Error("no queue took it"));
        else resolve();
      };
      this.publishing.publish(`${prefix}.${exchange}`, key, content, options, confirmed);
    });
  }

  // The same for what must not be lost, however long it takes.
  async handOver(key, type, body, options) {
    for (;;) {
      try {
        return await this.publish(key, type, body, { ...options, mandatory: true });
      } catch (error) {
        console.error(`the broker has not taken the ${type} of ${options.run?.id} yet: ${error.message}`);
        await sleep(200 + 2800 * Math.random());
      }
    }
  }
}
