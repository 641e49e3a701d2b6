// A worker that runs the kind text.sort. How it does what Buzzer asks of a worker is in runs.mjs and wire.mjs.
import { setTimeout as sleep } from "node:timers/promises";
import { Failed } from "./run.mjs";
import { Runs } from "./runs.mjs";

const kind = {
  name: "text.sort",
  title: "Sort a text",
  description: "Sorts the lines of a text.",
  input_schema: {
    type: "object",
    properties: {
      text: { type: "string" },
      seconds_per_line: { type: "number", minimum: 0, maximum: 60, description: "To take longer." },
      fail_times: { type: "integer", minimum: 0, description: "So many attempts fail first." },
    },
    required: ["text"],
    additionalProperties: false,
  },
  output_schema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
  example: { text: "soup\nbread" },
  retry: { max_attempts: 5, backoff: "1s", max_backoff: "5m" },
  timeout: "5m",
  slots: 16,
  delivery: "at_least_once",
};

// The handler. What computes for long goes into a `Worker` of node:worker_threads: else the beats stop, and the job goes
// to another. `run.signal` aborts when it is to stop.
async function sort(run, { text, seconds_per_line = 0, fail_times = 0 }) {
  if (run.headers.attempt <= fail_times) {
    throw new Failed("sorter-busy", `Attempt ${run.headers.attempt} was to fail.`, { retryAfter: 0.2 });
  }
  const lines = text.split("\n");
  for (const [at] of lines.entries()) {
    if (seconds_per_line) await sleep(seconds_per_line * 1000, null, { signal: run.signal });
    run.progress((100 * (at + 1)) / lines.length, `line ${at + 1} of ${lines.length}`);
  }
  return { text: lines.sort().join("\n") };
}

await new Runs(kind, sort).live();
