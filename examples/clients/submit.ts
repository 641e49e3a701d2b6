// Hands a job in, waits for its end, and prints its output, with a client made from /openapi.json.
import createClient from "openapi-fetch";
import type { components, paths } from "./buzzer.js";

type Job = components["schemas"]["JobView"];
type Problem = components["schemas"]["Problem"];

const { BUZZER_SERVER = "http://127.0.0.1:8080", BUZZER_KEY } = process.env;
const headers = BUZZER_KEY ? { authorization: `Bearer ${BUZZER_KEY}` } : {};
const buzzer = createClient<paths>({ baseUrl: BUZZER_SERVER, headers });

// A text is a stream of events, for who asks for one.
function read(answer: { data?: Job | string; error?: Problem }): Job {
  if (answer.data === undefined || typeof answer.data === "string") {
    throw new Error(`refused: ${answer.error?.title}`);
  }
  return answer.data;
}

let job = read(await buzzer.POST("/v1/jobs/demo.sleep", { body: { input: { seconds: 0.5 } } }));
while (!job.done) {
  job = read(await buzzer.GET("/v1/jobs/{job}", { params: { path: { job: job.id }, query: { wait: 30 } } }));
}
console.log(job.state, JSON.stringify(job.output));
