# What the replaced system had: an HTTP script that reads hosts and template at each request, one client after the other.
import http.server
import json
import os
import sys

DATA = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(os.path.join(DATA, "pxe_hosts.json")) as file:
            site = json.load(file)
        address = self.client_address[0]
        variables = dict(site["common"])
        variables.update(site["hosts"][address])
        with open(os.path.join(DATA, "default.yaml")) as file:
            text = file.read()
        text = text.replace("$private_ipv4", address)
        for name in sorted(variables, key=len, reverse=True):
            if name.startswith("$"):
                text = text.replace(name, variables[name])
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.HTTPServer(("", 8080), Handler).serve_forever()
