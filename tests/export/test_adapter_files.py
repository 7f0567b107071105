"""Where the files of an adapter are looked for, and what is refused."""

import json
import shutil

import pytest
import torch
from kdexport.core.adapters import Adapter
from kdexport.core.errors import CheckpointError, WeightsError
from kdexport.core.options import ModelOptions
from kdexport.export.adapter_files import find_adapter
from kdexport.export.adapter_tensors import open_adapter
from kdexport.export.hub import HubOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.weights import weight_hashes
from safetensors.torch import save_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TENSORS = {"a": torch.ones(2, 3), "b": torch.tensor(4.0)}


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps({"auto_mapping": {"base_model_class": "CLIPTextModel"}}))
        elif path.suffix == ".safetensors":
            save_file(TENSORS, path)
        else:
            torch.save(TENSORS, path)


def found(name, **options):
    """What is found, as (path below the named folder, component)."""
    source = find_adapter(Adapter(str(name)), **options)
    return [(each.file.name, each.component) for each in source.files]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["pytorch_lora_weights.safetensors", "z.safetensors"], "pytorch_lora_weights.safetensors"),
        (["pytorch_lora_weights.bin"], "pytorch_lora_weights.bin"),
        (["style.safetensors", "README.md.txt"], "style.safetensors"),
    ],
)
def test_a_folder(tmp_path, names, expected):
    put(tmp_path, *names)
    assert found(tmp_path) == [(expected, None)]


def test_peft_folders(tmp_path):
    put(tmp_path, "one/adapter_config.json", "one/adapter_model.bin")
    assert found(tmp_path / "one") == [("adapter_model.bin", "text_encoder")]
    put(tmp_path, "one/adapter_model.safetensors")
    assert found(tmp_path / "one") == [("adapter_model.safetensors", "text_encoder")]
    # By its file: the config beside it still counts.
    assert found(tmp_path / "one" / "adapter_model.bin") == found(tmp_path / "one")
    # A folder of folders: their names say the component, whatever the config says.
    for name in ("unet", "text_encoder_2"):
        put(tmp_path, f"two/{name}/adapter_config.json", f"two/{name}/adapter_model.safetensors")
    components = [component for _, component in found(tmp_path / "two")]
    assert components == ["unet", "text_encoder_2"]


def test_a_file(tmp_path):
    put(tmp_path, "a.safetensors", "b.bin", "c.txt")
    assert found(tmp_path / "a.safetensors") == [("a.safetensors", None)]
    assert found(tmp_path / "b.bin") == [("b.bin", None)]
    with pytest.raises(CheckpointError, match=r"c.txt' is no .safetensors, .bin or .pt file"):
        found(tmp_path / "c.txt")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no adapter: neither pytorch_lora_weights"),
        (["a.safetensors", "b.safetensors"], r"several files \(a.safetensors, b.safetensors\)"),
        (["adapter_config.json"], "but no adapter_model.safetensors or adapter_model.bin"),
    ],
)
def test_folders_without_an_adapter(tmp_path, names, message):
    put(tmp_path, *names)
    with pytest.raises(CheckpointError, match=message):
        find_adapter(Adapter(str(tmp_path)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ('{"auto_mapping": {"base_model_class": "T5"}}', "adapts a T5; kdexport fuses adapters of"),
        ('{"auto_mapping": null}', "does not say which model it adapts"),
    ],
)
def test_bad_peft_configs(tmp_path, config, message):
    put(tmp_path, "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        find_adapter(Adapter(str(tmp_path)))


def test_a_peft_config_without_a_class_is_of_the_unet_where_the_names_say_so(tmp_path):
    save_file(
        {"base_model.model.down_blocks.0.x.lora_A.weight": torch.ones(1)},
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text("{}")
    assert found(tmp_path) == [("adapter_model.safetensors", "unet")]


@pytest.mark.parametrize(
    "name", ["nothing", "missing/a.safetensors", "nothing.bin", "/no/such/a.bin", "../no/such"]
)
def test_what_does_not_exist(name):
    with pytest.raises(CheckpointError, match=rf"no adapter '{name}'; name a file, a folder, a"):
        find_adapter(Adapter(name))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The Hub's cache layout, filled by hand: what an earlier download leaves behind."""
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return repository / "snapshots" / COMMIT


def test_the_hub(cache):
    put(cache, "pytorch_lora_weights.safetensors", "sub/style.safetensors")
    source = find_adapter(Adapter("owner/name", 0.5), offline=True)
    assert source.adapter == Adapter("owner/name", 0.5, COMMIT)
    assert found("owner/name", offline=True) == [("pytorch_lora_weights.safetensors", None)]
    assert found("owner/name/sub/style.safetensors", offline=True) == [("style.safetensors", None)]
    with pytest.raises(CheckpointError, match="'owner/name' holds no file 'sub/none"):
        found("owner/name/sub/none.safetensors", offline=True)
    with pytest.raises(CheckpointError, match="'owner/other' is not in the local cache"):
        found("owner/other", offline=True)


def test_only_standard_names_are_downloaded(monkeypatch, tmp_path):
    """A repository of adapters may also hold whole models."""
    put(tmp_path, "adapter_config.json", "adapter_model.safetensors", "x.safetensors")
    asked = []

    def snapshot(*_, allow_patterns, ignore_patterns, **__):
        asked.append((allow_patterns, ignore_patterns))
        return str(tmp_path)

    monkeypatch.setattr("kdexport.export.hub.snapshot_download", snapshot)
    found("owner/name")
    found("owner/name/x.safetensors")
    assert "unet/adapter_model.bin" in asked[0][0]
    assert not any("*" in pattern for pattern in asked[0][0])
    assert asked[1] == (["x.safetensors", "adapter_config.json"], [])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_tensors_are_read_in_float32(tmp_path, name, dtype):
    tensors = {"x": torch.randn(3, 4).to(dtype)}
    put_file = save_file if name.endswith("safetensors") else torch.save
    put_file(tensors, tmp_path / name)
    tensor = open_adapter(tmp_path / name).tensors["x"]
    assert tensor.shape == (3, 4)
    assert tensor.read().dtype == "float32"
    assert torch.equal(torch.from_numpy(tensor.read().copy()), tensors["x"].float())


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": Evil()}, "a pickle that holds more than tensors"),
        ([torch.ones(1)], "holds no tensors by name"),
    ],
)
def test_pickles_of_more_than_tensors(tmp_path, capfd, content, message):
    torch.save(content, tmp_path / "a.bin")
    with pytest.raises(WeightsError, match=message):
        open_adapter(tmp_path / "a.bin")
    assert "executed" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
@pytest.mark.parametrize("size", [0, 20, -8])
def test_damaged_files(tmp_path, name, size):
    put(tmp_path, name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:size])
    with pytest.raises(WeightsError, match=r"download it again"):
        open_adapter(tmp_path / name)


def test_a_checkpoint_with_adapters(micro_pipeline, tmp_path):
    put(tmp_path, "a.safetensors", "p/adapter_config.json", "p/adapter_model.bin")
    adapters = (Adapter(str(tmp_path / "a.safetensors")), Adapter(str(tmp_path / "p"), 0.5))
    checkpoint = load_checkpoint(str(micro_pipeline), HubOptions(), ModelOptions(adapters=adapters))
    assert tuple(source.adapter for source in checkpoint.adapters) == adapters
    hashes = weight_hashes(checkpoint)
    own = {name for name in hashes if name.startswith("adapter")}
    assert own == {
        "adapter_0/a.safetensors",
        "adapter_1/text_encoder/adapter_config.json",
        "adapter_1/text_encoder/adapter_model.bin",
    }
    # The config says how strongly the adapter acts, so a change there is a change of weights.
    (tmp_path / "p" / "adapter_config.json").write_text("{}")
    assert weight_hashes(checkpoint) != hashes
    shutil.rmtree(tmp_path / "p")
