// Takes Buzzer's webhooks, and believes those that are signed.
//
//     npm install standardwebhooks
//     BUZZER_WEBHOOK_SECRET=whsec_... node receive.mjs
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.BUZZER_WEBHOOK_SECRET);
const BODY_MAX = 4 << 20;

const server = createServer(async (request, response) => {
  const answer = (status) => response.writeHead(status).end();
  if (request.method !== "POST") return answer(405);
  // The very bytes that came: read as JSON and written again, they would have another signature.
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > BODY_MAX) return answer(413);
    chunks.push(chunk);
  }
  let event;
  try {
    event = webhook.verify(Buffer.concat(chunks).toString(), request.headers);
  } catch (refusal) {
    console.log(`refused: ${refusal.message}`);
    return answer(400);
  }
  // The same delivery may come again, under the same id: whoever must not act twice remembers it.
  console.log(`${event.type} ${event.data.job_id} ${request.headers["webhook-id"]}`);
  answer(204);
});

server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
