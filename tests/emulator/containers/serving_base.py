"""What the serving containers of the tests have in common; it lies beside them, in their images too."""

import http.server
import os
import pathlib
import sys

base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def serve(handler):
    address = "0.0.0.0" if str(base) == "/opt/ml" else "127.0.0.1"
    server = http.server.ThreadingHTTPServer((address, int(os.environ["SAGEMAKER_BIND_TO_PORT"])), handler)
    server.daemon_threads = True
    server.serve_forever()
