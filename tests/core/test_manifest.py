import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core import manifest as m
from kdexport.core.errors import BundleError
from kdexport.core.records import decode, encode


def make_manifest(**changes):
    spec = m.TensorSpec("sample", "float32", ("batch", 4, "height", "width"))
    manifest = m.Manifest(
        schema_version=m.SCHEMA_VERSION,
        backend="onnx",
        family="sd",
        tools={"kdexport": "0"},
        source=m.SourceRecord("zoo:x", None, {"unet/a": "0" * 64}, "StableDiffusionPipeline"),
        components=(m.Component("unet", "unet/model.onnx", "fp32", (spec,), (spec,), 1),),
        text=(m.TextEncoding("text_encoder", "tokenizer/t.json", 77, 0, 1, 1, "last"),),
        zero_negative=False,
        latents=m.Latents(4, 8, 0.18215, 0.0),
        shapes=m.Shapes(64, None, None, None, {"unet": {"batch": (1, 2)}}),
        defaults=m.Defaults(50, 7.5, 512, 512, None, "default"),
        samplers=(m.SamplerRecord("default", "PNDMScheduler", "samplers/default.json", (1, 2)),),
    )
    return replace(manifest, **changes)


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.onnx").write_bytes(b"graph")
    (tmp_path / "parity.json").write_text("{}")
    manifest = make_manifest(files=m.record_files(tmp_path))
    m.save_manifest(manifest, tmp_path)
    return tmp_path


def edit(bundle, change):
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_round_trip(bundle):
    manifest = m.load_manifest(bundle)
    assert manifest == make_manifest(files=m.record_files(bundle))
    assert [record.path for record in manifest.files] == ["unet/model.onnx"]
    m.check_files(manifest, bundle)


def test_what_a_runtime_keeps_is_no_part_of_the_bundle(bundle):
    manifest = m.load_manifest(bundle)
    (bundle / m.RUNTIME_CACHE).mkdir()
    (bundle / m.RUNTIME_CACHE / "a.bin").write_bytes(b"kernels")
    assert m.record_files(bundle) == manifest.files
    m.check_files(manifest, bundle)
    # Only at the root.
    (bundle / "unet" / m.RUNTIME_CACHE).write_bytes(b"other")
    assert len(m.record_files(bundle)) == 2


@given(
    st.builds(
        m.Defaults,
        steps=st.integers(1, 99),
        guidance=st.floats(0, 20),
        height=st.integers(8, 4096),
        width=st.integers(8, 4096),
        negative_prompt=st.none() | st.text(),
        scheduler=st.text(),
    )
)
def test_records_survive_json(defaults):
    assert decode(m.Defaults, json.loads(json.dumps(encode(defaults)))) == defaults


def test_bundles_of_before_image_to_image_still_load(bundle):
    def forget(data):
        del data["guidance_embedding"], data["source"]["clip_skip"]
        del data["samplers"][0]["image"], data["text"][0]["negative_output"]

    edit(bundle, forget)
    assert m.load_manifest(bundle) == make_manifest(files=m.record_files(bundle))


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"no kdexport bundle: .*; make one"):
        m.load_manifest(tmp_path)


def test_no_json(bundle):
    (bundle / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="not valid JSON"):
        m.load_manifest(bundle)


def test_newer_schema(bundle):
    edit(bundle, lambda data: data.update(schema_version=99))
    with pytest.raises(
        BundleError, match="schema version 99, this kdexport reads up to 1; upgrade"
    ):
        m.load_manifest(bundle)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.pop("latents"), r"at \$: 'latents' is a required"),
        (lambda d: d.update(extra=1), r"'extra' was unexpected"),
        (lambda d: d["latents"].update(scaling_factor=0), r"\$\.latents\.scaling_factor"),
        (lambda d: d["components"][0].update(role="mmdit"), r"\$\.components\[0\]\.role"),
        (lambda d: d["components"][0].update(file="../secret"), r"\$\.components\[0\]\.file"),
        (lambda d: d["components"][0].update(file="/etc/passwd"), r"\$\.components\[0\]\.file"),
        (lambda d: d["files"][0].update(sha256="short"), r"\$\.files\[0\]\.sha256"),
        (lambda d: d["samplers"].clear(), r"\$\.samplers"),
    ],
)
def test_the_schema_is_checked_on_load(bundle, change, where):
    edit(bundle, change)
    with pytest.raises(BundleError, match=where):
        m.load_manifest(bundle)


def test_a_changed_byte(bundle):
    (bundle / "unet" / "model.onnx").write_bytes(b"grapH")
    with pytest.raises(BundleError, match=r"'unet/model.onnx' .* changed or damaged"):
        m.check_files(m.load_manifest(bundle), bundle)


def test_what_a_manifest_is_linked_to_stays(bundle, tmp_path):
    manifest = m.load_manifest(bundle)
    before = (bundle / m.MANIFEST_NAME).read_bytes()
    os.link(bundle / m.MANIFEST_NAME, tmp_path / "blob")
    m.save_manifest(replace(manifest, request="0" * 64), bundle)
    assert m.load_manifest(bundle).request == "0" * 64
    assert (tmp_path / "blob").read_bytes() == before
    assert not list(bundle.glob(".manifest*"))


def test_a_missing_file(bundle):
    (bundle / "unet" / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"lacks 'unet/model\.onnx'"):
        m.check_files(m.load_manifest(bundle), bundle)


def test_unknown_names_list_the_known_ones(bundle):
    manifest = m.load_manifest(bundle)
    with pytest.raises(BundleError, match="no component 'vae', only unet"):
        manifest.component("vae")
    with pytest.raises(BundleError, match="no scheduler 'euler', only default"):
        m.load_sampler(manifest, bundle, "euler")


@pytest.mark.parametrize(
    ("compression", "formats"),
    [
        (None, {}),
        ({"formats": {"int8": 3, "float": 1}}, {"int8": 3, "float": 1}),
        # As kdexport wrote it before there were other formats than palettes.
        ({"bits": 6, "weights_by_bits": {"6": 30, "8": 2}}, {"palette6": 30, "palette8": 2}),
    ],
)
def test_formats_of_weights(compression, formats):
    component = replace(make_manifest().components[0], compression=compression)
    assert component.formats == formats
