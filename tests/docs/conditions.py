"""What the rows of the troubleshooting page find: files, and states of the machine."""

import importlib.util
import io
import json
import shutil
import sys
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from kdexport.core.manifest import EngineRecord, load_manifest, record_files, save_manifest
from PIL import Image

UNET = "unet/diffusion_pytorch_model.safetensors"


def _session(name):
    """A maker that copies what a fixture of the session holds."""

    def make(path, request):
        source = request.getfixturevalue(name)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, path)

    return make


def _text(path, _):
    path.write_text("Vases, mostly.\n")


def _folder(path, _):
    path.mkdir()


def _picture(path, _):
    Image.new("RGB", (32, 32), "orange").save(path)


def _single_file(path, request):
    source = request.getfixturevalue("micro_pipeline")
    shutil.copyfile(source / UNET, path)


def _unet_only(path, request):
    shutil.copytree(request.getfixturevalue("micro_pipeline") / "unet", path / "unet")


def _engines(path, request):
    """A bundle whose engines are for sm_86, though nothing would load them."""
    _session("micro_bundle")(path, request)
    manifest = load_manifest(path)
    engines = []
    for component in manifest.components:
        file = f"{component.role}.sm86.rtx.engine"
        (path / file).write_bytes(b"never loaded")
        engines.append(EngineRecord(component.role, file, "rtx", "sm_86", "1.7", "0" * 64, {}))
    files = record_files(path)
    save_manifest(replace(manifest, backend="tensorrt", engines=tuple(engines), files=files), path)


# What commands name, and who makes it. Everything else that they name is not there.
FILES = {
    "model": _session("micro_pipeline"),
    "other": _session("other_pipeline"),
    "bundle": _session("micro_bundle"),
    "steered": _session("steered_bundle"),
    "engines": _engines,
    "unet-only": _unet_only,
    "student.safetensors": _single_file,
    "adapter.safetensors": _session("adapter_of_other"),
    "calib.npz": _session("calibration"),
    "table.json": _session("table"),
    "empty": _folder,
    "notes.txt": _text,
    "photo.png": _picture,
}


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class _Hub(BaseHTTPRequestHandler):
    """A Hub that answers every question with the same refusal."""

    refusal = (404, "RepoNotFound")

    def _answer(self):
        status, code = self.refusal
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = _answer

    def log_message(self, *_):
        pass


def _hub_saying(status, code):
    def condition(here, patch, request):
        from huggingface_hub import constants

        refusing = type("Refusing", (_Hub,), {"refusal": (status, code)})
        server = ThreadingHTTPServer(("127.0.0.1", 0), refusing)
        Thread(target=server.serve_forever, daemon=True).start()
        request.addfinalizer(server.server_close)
        request.addfinalizer(server.shutdown)
        patch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        patch.setattr(constants, "HF_HUB_CACHE", str(here.parent / "hub"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)

    return condition


def _no_network(here, patch, request):
    from huggingface_hub import constants

    # Not HF_HUB_OFFLINE, of which the message would speak: an address where nothing listens.
    patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    patch.setattr(constants, "HF_HUB_CACHE", str(here.parent / "hub"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setenv("NO_PROXY", "*")


def _without(package):
    def condition(_, patch, __):
        # Where a module is None, importing it fails as if it were not installed.
        patch.setitem(sys.modules, package, None)

    return condition


def _no_openvino(here, patch, request):
    from kdexport.runtimes.openvino_devices import openvino_core

    _without("openvino")(here, patch, request)
    # The process keeps one core, which an earlier test may have made.
    patch.setattr("kdexport.runtimes.openvino.openvino_core", openvino_core.__wrapped__)


def _full_disk(here, patch, _):
    free = shutil.disk_usage(here)._replace(free=1000)
    patch.setattr("kdexport.core.folder.shutil.disk_usage", lambda _: free)


def _no_driver(*_):
    from kdexport.runtimes.tensorrt.machine import gpu_present

    if gpu_present():
        pytest.skip("this machine has a GPU")


def _rtx_4090(_, patch, __):
    path = Path(__file__).parents[1] / "runtimes" / "tensorrt" / "fake_cuda.py"
    spec = importlib.util.spec_from_file_location("kdexport_docs_tests_fake_cuda", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FakeCuda().install(patch)
    patch.setattr("kdexport.runtimes.tensorrt.machine.gpu_present", lambda: True)


def _another_pipeline(here, *_):
    _edit(here / "model" / "model_index.json", _class_name="FluxPipeline")


def _cut_weights(here, *_):
    path = here / "model" / UNET
    path.write_bytes(path.read_bytes()[:-100])


def _another_config(here, *_):
    _edit(here / "model" / "vae" / "config.json", block_out_channels=[8, 8, 24])


def _no_tokenizer(here, *_):
    shutil.rmtree(here / "model" / "tokenizer")


def _clipping_scheduler(here, *_):
    _edit(here / "model" / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    _edit(here / "model" / "scheduler" / "scheduler_config.json", clip_sample=True)


def _scaled(path, name, factor):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    tensors[name] = tensors[name] * np.float32(factor)
    save_file(tensors, path, metadata={"format": "pt"})


def _hot_model(here, *_):
    # Its first convolution gives more than float16 can hold, and the norm after it divides again.
    _scaled(here / "model" / UNET, "conv_in.weight", 1e6)


def _model_trained_on(here, _, request):
    FILES["model"](here / "model", request)
    _scaled(here / "model" / UNET, "conv_out.weight", 1.01)
    manifest = load_manifest(here / "bundle")
    source = replace(manifest.source, model="model")
    save_manifest(replace(manifest, source=source), here / "bundle")


def _changed_file(here, *_):
    path = here / "bundle" / "unet" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def _missing_file(here, *_):
    (here / "bundle" / "unet" / "model.onnx").unlink()


def _newer_schema(here, *_):
    _edit(here / "bundle" / "manifest.json", schema_version=99)


def _damaged_manifest(here, *_):
    path = here / "bundle" / "manifest.json"
    path.write_text(path.read_text()[:-10])


def _out_exists(here, *_):
    (here / "out").mkdir()
    (here / "out" / "mine").write_text("keep")


def _recipe(text):
    def condition(here, *_):
        (here / "recipe.json").write_text(text)

    return condition


def _latents(shape, value):
    def condition(here, *_):
        np.save(here / "latents.npy", np.full(shape, value, np.float32))

    return condition


def _recording(change):
    """Writes the U-Net's first sample of the calibration data anew."""

    def condition(here, *_):
        path = here / "calib.npz"
        with zipfile.ZipFile(path) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
        name = next(each for each in sorted(held) if each.endswith("/sample.npy"))
        written = io.BytesIO()
        np.save(written, change(np.load(io.BytesIO(held[name]))))
        with zipfile.ZipFile(path, "w") as archive:
            for each, data in held.items():
                archive.writestr(each, written.getvalue() if each == name else data)

    return condition


def _calibration_cut(here, *_):
    path = here / "calib.npz"
    path.write_bytes(path.read_bytes()[:-100])


_OF_ANOTHER = {
    "kdexport_recipe": 1,
    "components": {"unet": {"default": "int8"}},
    "architecture": {"unet": "0" * 64},
    "made": {"model": "koala"},
}

# States that rows name; each is called with the folder, a monkeypatch and the test's request.
CONDITIONS = {
    "no_network": _no_network,
    "hub_without_it": _hub_saying(404, "RepoNotFound"),
    "hub_that_gates_it": _hub_saying(403, "GatedRepo"),
    "hub_without_the_revision": _hub_saying(404, "RevisionNotFound"),
    "another_pipeline": _another_pipeline,
    "cut_weights": _cut_weights,
    "another_config": _another_config,
    "no_tokenizer": _no_tokenizer,
    "clipping_scheduler": _clipping_scheduler,
    "out_exists": _out_exists,
    "full_disk": _full_disk,
    "no_onnxscript": _without("onnxscript"),
    "no_coremltools": _without("coremltools"),
    "no_openvino": _no_openvino,
    "no_onnxruntime": _without("onnxruntime"),
    "hot_model": _hot_model,
    "calibration_of_another_shape": _recording(lambda array: array[:, :3]),
    "calibration_with_nan": _recording(lambda array: array * np.float32("nan")),
    "calibration_cut": _calibration_cut,
    "recipe_no_json": _recipe('{"default": 6,}'),
    "recipe_with_a_slip": _recipe('{"default": "int8", "conv_inn.weight": "int8"}'),
    "recipe_of_another": _recipe(json.dumps(_OF_ANOTHER)),
    "no_driver": _no_driver,
    "rtx_4090": _rtx_4090,
    "changed_file": _changed_file,
    "missing_file": _missing_file,
    "newer_schema": _newer_schema,
    "damaged_manifest": _damaged_manifest,
    "model_trained_on": _model_trained_on,
    "latents_of_another_size": _latents((1, 4, 5, 5), 0.5),
    "latents_with_nan": _latents((1, 4, 8, 8), float("nan")),
}
