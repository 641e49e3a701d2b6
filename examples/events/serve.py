"""Serves the page beside this file, and hands on what it asks of Buzzer.

    python3 examples/events/serve.py

The page and the API must come from one place, or a browser keeps them apart; and a browser's EventSource cannot send a
key, so it is added here (BUZZER_KEY) and stays out of the page. In earnest, a web server does the same: its users log in
there, and it asks Buzzer for what is theirs.
"""

import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BUZZER = urlsplit(os.environ.get("BUZZER_SERVER", "http://127.0.0.1:8080"))
KEY = os.environ.get("BUZZER_KEY")
LISTEN = ("127.0.0.1", int(os.environ.get("PORT", "8000")))
PASSED_ON = ["accept", "content-type", "idempotency-key", "last-event-id"]


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments):
        super().__init__(*arguments, directory=os.path.dirname(os.path.abspath(__file__)))

    def do_GET(self):
        if self.path.startswith("/v1/"):
            self.hand_on()
        else:
            super().do_GET()

    def do_POST(self):
        self.hand_on()

    def hand_on(self):
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        if KEY:
            headers["authorization"] = f"Bearer {KEY}"
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        connect = HTTPSConnection if BUZZER.scheme == "https" else HTTPConnection
        buzzer = connect(BUZZER.hostname, BUZZER.port, timeout=60)
        try:
            buzzer.request(self.command, BUZZER.path.rstrip("/") + self.path, body or None, headers)
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


if __name__ == "__main__":
    server = ThreadingHTTPServer(LISTEN, Handler)
    print(f"http://{LISTEN[0]}:{server.server_port}", flush=True)
    server.serve_forever()
