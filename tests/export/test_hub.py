"""What is downloaded: a fake Hub that filters file names as the real one does."""

import shutil

import pytest
from huggingface_hub.utils import filter_repo_objects
from kdexport.core.options import ModelOptions
from kdexport.export import hub
from kdexport.export.hub import HubOptions
from kdexport.export.load import load_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAFE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """Takes `{repository: folder}`; gives the calls that were made."""
    repositories, calls = {}, []

    def snapshot_download(
        repository, *, revision, token, local_files_only, allow_patterns, ignore_patterns
    ):
        folder = repositories[repository]
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
        wanted = list(
            filter_repo_objects(
                files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
            )
        )
        target = tmp_path / "hub" / repository / COMMIT
        for name in wanted:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)
        calls.append((repository, revision, wanted))
        return str(target)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    repositories["calls"] = calls
    return repositories


def repository(tmp_path, files):
    for name in files:
        path = tmp_path / "remote" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return tmp_path / "remote"


def fetched(remote, folder, variant=None, without=()):
    """Downloads and gives the weight files, and the number of calls."""
    remote["a/b"] = folder
    path, commit = hub.download("a/b", "main", None, False, variant, without)
    assert commit == path.name == COMMIT
    weights = [each for each in path.rglob("*") if each.suffix in (".safetensors", ".bin")]
    names = sorted(each.relative_to(path).as_posix() for each in weights)
    return names, len(remote["calls"])


PIPELINE = [
    "model_index.json", "README.md", "all-in-one.safetensors", "sd.ckpt",
    "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
    "unet/config.json", f"unet/{SAFE}", "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.bin",
    "vae/config.json", f"vae/{SAFE}",
    "text_encoder/config.json", "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin",
    "safety_checker/config.json", "safety_checker/model.safetensors",
]  # fmt: skip


def test_plain_safetensors_in_one_call(remote, tmp_path):
    names, calls = fetched(remote, repository(tmp_path, PIPELINE))
    assert names == ["text_encoder/model.safetensors", f"unet/{SAFE}", f"vae/{SAFE}"]
    assert calls == 1
    assert "tokenizer/merges.txt" in remote["calls"][0][2]


def test_a_variant_and_plain_where_there_is_none(remote, tmp_path):
    names, calls = fetched(remote, repository(tmp_path, PIPELINE), variant="fp16")
    unet = "unet/diffusion_pytorch_model.fp16.safetensors"
    assert names == ["text_encoder/model.fp16.safetensors", unet, f"vae/{SAFE}"]
    assert calls == 2
    # The commit that the first call found, not the branch again.
    assert [revision for _, revision, _ in remote["calls"]] == ["main", COMMIT]


def test_pickles_where_there_is_nothing_else(remote, tmp_path):
    files = [name for name in PIPELINE if not name.endswith("encoder/model.safetensors")]
    names, _ = fetched(remote, repository(tmp_path, files))
    assert names == ["text_encoder/pytorch_model.bin", f"unet/{SAFE}", f"vae/{SAFE}"]


def test_shards(remote, tmp_path):
    shards = [f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = f"unet/{SAFE}.index.json"
    folder = repository(tmp_path, ["model_index.json", "unet/config.json", index, *shards])
    assert fetched(remote, folder) == (shards, 1)


@pytest.mark.parametrize("name", [SAFE, "diffusion_pytorch_model.bin"])
def test_a_repository_that_is_one_component(remote, tmp_path, name):
    folder = repository(tmp_path, ["config.json", name, "sdxl.vae.safetensors"])
    assert fetched(remote, folder)[0] == [name]


def test_what_is_not_needed_stays(remote, tmp_path):
    names, calls = fetched(remote, repository(tmp_path, PIPELINE), without=("unet", "vae"))
    assert names == ["text_encoder/model.safetensors"]
    assert calls == 1


def test_configs_only(remote, tmp_path):
    remote["a/b"] = repository(tmp_path, PIPELINE)
    hub.download_configs("a/b", None, None, False)
    wanted = remote["calls"][0][2]
    assert "unet/config.json" in wanted
    assert not [name for name in wanted if name.endswith((".safetensors", ".bin", ".ckpt"))]


def test_a_student_its_base_and_a_decoder(remote, narrow, tmp_path):
    shutil.copytree(narrow("koala-700m") / "unet", tmp_path / "student" / "unet")
    remote["a/student"] = tmp_path / "student"
    remote["a/base"], remote["a/vae"] = narrow("koala-1b"), narrow("koala-700m") / "vae"
    extra = ModelOptions(base="a/base", decoder="a/vae")
    checkpoint = load_checkpoint("a/student", HubOptions(revision="v1"), extra)
    assert checkpoint.revision == COMMIT
    assert checkpoint.component("unet").folder.parts[-3:] == ("student", COMMIT, "unet")
    # The revision is one of the student's repository, and what the others replace stays there.
    by_repository = {name: (revision, files) for name, revision, files in remote["calls"]}
    assert [by_repository[name][0] for name in ("a/student", "a/base", "a/vae")] == [
        "v1",
        None,
        None,
    ]
    assert f"unet/{SAFE}" not in by_repository["a/base"][1]
    assert f"vae/{SAFE}" not in by_repository["a/base"][1]
    assert "text_encoder_2/model.safetensors" in by_repository["a/base"][1]


def test_a_single_file_and_a_config(remote, narrow, ldm, tmp_path):
    file = ldm.write_single_file(narrow("bk-sdm-small"), tmp_path / "model.safetensors")
    remote["nota-ai/bk-sdm-small"] = narrow("bk-sdm-small")
    checkpoint = load_checkpoint(str(file), extra=ModelOptions(config="nota-ai/bk-sdm-small"))
    assert checkpoint.component("unet").file == file
    assert (checkpoint.model, checkpoint.config) == (str(file), "nota-ai/bk-sdm-small")
    assert len(remote["calls"]) == 1
