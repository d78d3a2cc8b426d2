"""A Google Drive on which every id is the same LoRA: nothing that .ci/fuzz-api asks for leaves the machine."""

import json
import struct
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k"
TENSORS = {
    f"{NAME}.alpha": [],
    f"{NAME}.lora_down.weight": [1, 320],
    f"{NAME}.lora_up.weight": [320, 1],
}


def safetensors():
    header, end = {}, 0
    for name, shape in TENSORS.items():
        begin, count = end, 1
        for size in shape:
            count *= size
        end += 2 * count
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


FILE = safetensors()


class Drive(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(json.dumps({"access_token": "fuzz", "expires_in": 3600, "token_type": "Bearer"}).encode())

    def do_GET(self):
        address = urlsplit(self.path)
        if parse_qs(address.query).get("alt") == ["media"]:
            self.answer(FILE, "application/octet-stream")
            return
        told = {
            "id": address.path.rsplit("/", 1)[-1],
            "name": "fuzz.safetensors",
            "size": str(len(FILE)),
            "mimeType": "application/octet-stream",
            "headRevisionId": "1",
            "capabilities": {"canDownload": True},
        }
        self.answer(json.dumps(told).encode())

    def answer(self, body, content_type="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Drive)
    print(f"listening at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
