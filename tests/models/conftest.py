"""Fixtures that the tests of several modules share."""

import http.server
import threading

import open_clip
import pytest
import torch
from safetensors.torch import save_file

TINY = {  # a small model for open_clip
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """Register the model; return a file with its weights, and the model."""
    import json

    folder = tmp_path_factory.mktemp("clip")
    (folder / "ViT-clipdr-test.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder)
    torch.manual_seed(5)
    model = open_clip.create_model("ViT-clipdr-test", pretrained=None)
    path = folder / "weights.safetensors"
    save_file(model.state_dict(), path)
    return path, model.eval()


@pytest.fixture
def mirror(tiny_clip):
    """Loopback server in the layout of the Hugging Face hub; address and requested paths."""
    content, requested = tiny_clip[0].read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            exists = self.path == "/team/tiny/resolve/main/open_clip_model.safetensors"
            self.send_response(200 if exists else 404)
            self.send_header("Content-Length", str(len(content) if exists else 0))
            self.end_headers()
            self.wfile.write(content if exists else b"")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requested
    server.shutdown()


@pytest.fixture
def hub_tag(monkeypatch, tmp_path):
    """Let the tag `ours` point to team/tiny on the hub; return the empty cache folder."""
    monkeypatch.setenv("CLIPDR_WEIGHTS", str(tmp_path / "weights"))
    original = open_clip.get_pretrained_cfg
    hub = {"hf_hub": "team/tiny/", "mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0]}
    monkeypatch.setattr(
        open_clip,
        "get_pretrained_cfg",
        lambda name, tag: hub if tag == "ours" else original(name, tag),
    )
    return tmp_path / "weights"
