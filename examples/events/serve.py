"""Serves the page beside this file, starts jobs for it, and hands on what it looks at.

    python3 examples/events/serve.py

The key (BUZZER_KEY) is used here and stays here: the page has a ticket, which opens its own job for a minute and nothing
else. In earnest a web server does the same: its users log in there, and it asks for tickets to what is theirs.

What the page looks at is handed on as it is, ticket and all. That is the work of any proxy, such as nginx: the page and the
API must come from one place, or a browser keeps them apart.
"""

import json
import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BUZZER = urlsplit(os.environ.get("BUZZER_SERVER", "http://127.0.0.1:8080"))
KEY = os.environ.get("BUZZER_KEY")
LISTEN = ("127.0.0.1", int(os.environ.get("PORT", "8000")))
PASSED_ON = ["accept", "last-event-id"]


def connect():
    connection = HTTPSConnection if BUZZER.scheme == "https" else HTTPConnection
    return connection(BUZZER.hostname, BUZZER.port, timeout=60)


def ask(path, order, headers=()):
    """What Buzzer answers to this order, with the key."""
    headers = {"content-type": "application/json", **dict(headers)}
    if KEY:
        headers["authorization"] = f"Bearer {KEY}"
    buzzer = connect()
    try:
        buzzer.request("POST", BUZZER.path.rstrip("/") + path, json.dumps(order), headers)
        answer = buzzer.getresponse()
        return answer.status, json.load(answer)
    finally:
        buzzer.close()


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments):
        super().__init__(*arguments, directory=os.path.dirname(os.path.abspath(__file__)))

    def do_GET(self):
        if self.path.startswith("/v1/"):
            self.hand_on()
        else:
            super().do_GET()

    def do_POST(self):
        try:
            if self.path == "/start":
                # The page makes it: sent again with the same, a submission is the same job.
                key = {name: self.headers[name] for name in ["idempotency-key"] if name in self.headers}
                order = {"input": {"steps": 20, "seconds": 10}}
                status, answer = ask("/v1/jobs/demo.progress", order, key)
            elif self.path.startswith("/ticket/"):
                # Here you would see to it that the job is this user's.
                status, answer = ask("/v1/tickets", {"job_id": self.path[len("/ticket/"):]})
            else:
                return self.send_error(404)
        except (OSError, HTTPException, ValueError) as error:
            return self.send_error(502, f"Buzzer does not answer: {error}")
        self.answer(status, json.dumps(answer).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def hand_on(self):
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        buzzer = connect()
        try:
            buzzer.request("GET", BUZZER.path.rstrip("/") + self.path, None, headers)
            answer = buzzer.getresponse()
        except (OSError, HTTPException) as error:
            return self.send_error(502, f"Buzzer does not answer: {error}")
        try:
            self.send_response(answer.status)
            self.send_header("content-type", answer.headers.get("content-type", "application/octet-stream"))
            self.send_header("cache-control", "no-cache")
            self.end_headers()
            # What is there goes on at once: a stream has no end to wait for.
            while chunk := answer.read1(65536):
                self.wfile.write(chunk)
        except (OSError, HTTPException):
            pass  # One of the two has gone; the browser comes back.
        finally:
            buzzer.close()

    def log_request(self, code="-", size="-"):
        # Without the query: a ticket does not belong in a log.
        self.log_message('"%s %s" %s', self.command, urlsplit(self.path).path, code)


if __name__ == "__main__":
    server = ThreadingHTTPServer(LISTEN, Handler)
    print(f"http://{LISTEN[0]}:{server.server_port}", flush=True)
    server.serve_forever()
