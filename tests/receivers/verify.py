"""A receiver that verifies each request with the library of Standard Webhooks.

verify.py PORT KEYS LOG: KEYS is a JSON file with a key for each path. What verifies is answered 204, or 503 the first time
that an id comes to a path that ends in `/late`; what does not verify is answered 401. Each request is a line of LOG.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

port, keys_file, log_file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
with open(keys_file, encoding="utf-8") as file:
    KEYS = json.load(file)
SEEN = set()
LOCK = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(204)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        name = self.headers.get("webhook-id")
        status, error = 204, None
        try:
            Webhook(KEYS[self.path]).verify(body, dict(self.headers))
        except WebhookVerificationError as refused:
            status, error = 401, str(refused)
        with LOCK:
            if status == 204 and self.path.endswith("/late") and name not in SEEN:
                SEEN.add(name)
                status = 503
            line = {
                "path": self.path,
                "id": name,
                "timestamp": int(self.headers.get("webhook-timestamp", "0")),
                "at": time.time(),
                "status": status,
                "error": error,
                "body": body.decode(),
            }
            with open(log_file, "a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        self.answer(status)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
