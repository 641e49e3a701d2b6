#!/usr/bin/env python3
"""Takes Buzzer's webhooks, and believes those that are signed.

    pip install standardwebhooks
    BUZZER_WEBHOOK_SECRET=whsec_... python3 receive.py [--count N]
"""
import argparse
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

WEBHOOK = Webhook(os.environ["BUZZER_WEBHOOK_SECRET"])
BODY_MAX = 4 << 20


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > BODY_MAX:
            return self.answer(413)
        # The very bytes that came: read as JSON and written again, they would have another signature.
        body = self.rfile.read(length)
        try:
            event = WEBHOOK.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except (WebhookVerificationError, json.JSONDecodeError) as refusal:
            print(f"refused: {refusal}", flush=True)
            return self.answer(400)
        # The same delivery may come again, under the same id: whoever must not act twice remembers it.
        print(f"{event['type']} {event['data']['job_id']} {self.headers['webhook-id']}", flush=True)
        self.answer(204)
        believed.append(event)
        if len(believed) == count:
            server.shutdown()

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


arguments = argparse.ArgumentParser()
arguments.add_argument("--count", type=int, help="stop when so many were believed")
count, believed = arguments.parse_args().count, []
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
