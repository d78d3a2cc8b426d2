"""What schemathesis cannot find out by itself: how bytes of an upload are sent, and what there is to ask for."""

import base64
import itertools
import os
import sys
import uuid
import zlib
from pathlib import Path

import requests
import schemathesis

sys.path.append(str(Path(__file__).parent))
from fuzz_drive import FILE as LORA  # noqa: E402

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")

API = "/api/v1/comfyui"
TOKEN = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
NUMBERS = itertools.count()
# How often an operation is asked of something that is there. Never always: what is not there is asked for, too.
EVERY = 2


def png():
    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def made(root, collection, number):
    """Makes one thing more, or finds a run, and gives its id."""
    if collection == "workflows":
        draft = {"name": f"fuzz {number}", "workflow_json": {"1": {"class_type": "EmptyLatentImage", "inputs": {"width": 8}}}}
        return requests.post(f"{root}/workflows", headers=TOKEN, json=draft, timeout=30).json().get("id")
    if collection == "loras":
        files = {"file": (f"fuzz-{number}.safetensors", LORA)}
        return requests.post(f"{root}/loras", headers=TOKEN, files=files, timeout=30).json().get("id")
    if collection == "tokens":
        draft = {"name": f"fuzz {number}", "scopes": ["runs:read"]}
        return requests.post(f"{root}/tokens", headers=TOKEN, json=draft, timeout=30).json().get("id")
    if collection == "inputs":
        answer = requests.post(f"{root}/inputs", headers=TOKEN, files={"file": (f"{number}.png", png())}, timeout=30)
        return answer.json().get("id")
    if collection == "uploads":
        name = base64.b64encode(f"fuzz-{number}.safetensors".encode()).decode()
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000", "Upload-Metadata": f"filename {name}"}
        answer = requests.post(f"{root}/loras/uploads", headers=TOKEN | headers, timeout=30)
        return answer.headers.get("Location", "").rpartition("/")[2] or None
    listed = requests.get(f"{root}/runs?limit=200", headers=TOKEN, timeout=30).json().get("items")
    if not listed:
        return None
    # Those that have outputs, if any has: a retry, a cancellation and a download find them.
    listed = [item for item in listed if item.get("outputs")] or listed
    return listed[number % len(listed)]["id"]


@schemathesis.hook
def before_call(context, case, kwargs):
    number = next(NUMBERS)
    if number % EVERY or not case.path.startswith(API) or "{id}" not in case.path:
        return
    try:
        uuid.UUID(case.path_parameters["id"])
    except (KeyError, TypeError, ValueError):
        return
    collection = case.path.removeprefix(f"{API}/").split("/{id}")[0].rpartition("/")[2]
    root = case.operation.schema.get_base_url().rstrip("/") + API
    if there := made(root, collection, number):
        case.path_parameters["id"] = there
        if "index" in case.path_parameters and number % 4 == 0:
            case.path_parameters["index"] = 0
