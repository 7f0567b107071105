"""The stages of `scripts/train_demo_model.py`: they resume, remove the right blocks, learn."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield
        for name in [each for each in sys.modules if each.split(".")[0] == "demo_model"]:
            del sys.modules[name]


def parameters(module: torch.nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def names(unet: torch.nn.Module) -> set[str]:
    """Names of the parameters; a shortcut is there only where two levels differ in width."""
    return {name for name in unet.state_dict() if ".conv_shortcut." not in name}


def line(folder: Path, recipe, broken_at: int | None = None) -> torch.nn.Linear:
    """Fits a line; stops as Ctrl-C would, in the middle of a step, where told to."""
    from demo_model.fit import fit

    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)

    def loss(step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        if step == broken_at:
            raise KeyboardInterrupt
        x = torch.randn((recipe.batch, 2), generator=generator)
        return {"error": ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()}

    fit(folder, model, recipe, loss, lambda path: path.touch())
    return model


@pytest.fixture
def recipe():
    from demo_model.fit import Recipe

    return Recipe(steps=60, batch=8, rate=0.1, warmup=5, save_every=10, draw_every=20)


def test_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path, recipe) -> None:
    whole = line(tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        line(tmp_path / "broken", recipe, broken_at=37)
    assert not (tmp_path / "broken" / "final.pt").exists()
    resumed = line(tmp_path / "broken", recipe)
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)
    # And it learnt: the line is the sum.
    assert torch.allclose(whole.weight, torch.ones(1, 2), atol=0.05)


def test_finished_run_is_only_loaded(tmp_path: Path, recipe) -> None:
    first = line(tmp_path, recipe)
    again = line(tmp_path, recipe, broken_at=0)  # would raise if it took a single step
    assert torch.equal(first.weight, again.weight)


def test_leaves_losses_and_sheets(tmp_path: Path, recipe) -> None:
    line(tmp_path, recipe)
    rows = [json.loads(row) for row in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 40, 60]
    assert rows[-1]["error"] < rows[0]["error"]
    assert sorted(each.stem for each in (tmp_path / "sheets").iterdir()) == [
        "000020",
        "000040",
        "000060",
    ]
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "final.pt",
        "losses.jsonl",
        "sheets",
    ]


def test_not_finite_stops(tmp_path: Path, recipe) -> None:
    from demo_model.fit import fit

    model = torch.nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="step 0"):
        fit(
            tmp_path,
            model,
            recipe,
            lambda step, generator: {"x": model.weight.sum() * float("nan")},
            lambda path: None,
        )


def test_rate_rises_and_falls(recipe) -> None:
    rates = [recipe.rate_at(step) for step in range(recipe.steps)]
    assert rates[: recipe.warmup] == sorted(rates[: recipe.warmup])
    assert rates[recipe.warmup :] == sorted(rates[recipe.warmup :], reverse=True)
    assert max(rates) == pytest.approx(recipe.rate)
    assert rates[-1] < 0.05 * recipe.rate


@pytest.mark.parametrize("name", ["steps", "batch", "save_every", "draw_every"])
def test_recipe_is_validated(name: str) -> None:
    from demo_model.fit import Recipe

    with pytest.raises(ValueError, match="at least 1"):
        Recipe(**({"steps": 1, "batch": 1, "rate": 1.0} | {name: 0}))


def test_student_has_the_blocks_of_bk_sdm_small(narrow) -> None:
    from demo_model.unets import make_student, make_teacher
    from diffusers import UNet2DConditionModel

    teacher = make_teacher()
    student = make_student(teacher)
    theirs = UNet2DConditionModel.from_pretrained(narrow("bk-sdm-small") / "unet")
    assert names(student) == names(theirs)
    assert parameters(student) <= 0.5 * parameters(teacher)


def test_student_starts_from_the_teachers_remaining_layers() -> None:
    from demo_model.unets import make_student, make_teacher

    teacher = make_teacher()
    old, new = teacher.state_dict(), make_student(teacher).state_dict()
    # BK-SDM's map: of an up block the first and the last layer stay, the middle one goes.
    for mine, its in (
        ("down_blocks.1.attentions.0.proj_in.weight",) * 2,
        ("up_blocks.2.resnets.1.conv1.weight", "up_blocks.2.resnets.2.conv1.weight"),
        ("up_blocks.2.resnets.0.conv1.weight",) * 2,
        ("up_blocks.3.attentions.1.proj_out.bias", "up_blocks.3.attentions.2.proj_out.bias"),
    ):
        assert torch.equal(new[mine], old[its])


def test_tokenizer_has_a_token_for_every_word(tmp_path: Path) -> None:
    from demo_model.data import training_scenes
    from demo_model.text import MAX_LENGTH, make_tokenizer

    tokenizer = make_tokenizer(tmp_path)
    for scene in training_scenes(300):
        tokens = tokenizer.tokenize(scene.caption)
        assert len(tokens) == len(scene.caption.split())
        assert len(tokens) + 2 <= MAX_LENGTH


def test_a_tenth_of_the_captions_is_empty() -> None:
    from demo_model.latents import LatentSet

    zeros = torch.zeros(50, 4, 2, 2)
    data = LatentSet(zeros, zeros, torch.ones(50, 8, dtype=torch.long), torch.zeros(8).long())
    _, tokens = data.batch(4000, torch.Generator().manual_seed(0))
    assert 0.08 < (tokens == 0).all(1).float().mean() < 0.12


def test_weighted_loss_is_min_snr() -> None:
    from demo_model.diffusion import Diffusion

    diffusion = Diffusion(torch.device("cpu"))
    products = diffusion.scheduler.alphas_cumprod
    ratio = products / (1 - products)
    expected = torch.minimum(ratio, torch.tensor(5.0)) / ratio
    assert torch.allclose(diffusion.weight, expected, rtol=1e-4)


def test_a_batch_without_its_noise_is_the_latents() -> None:
    from demo_model.diffusion import Diffusion
    from demo_model.latents import LatentSet

    latents = torch.randn(1, 4, 4, 4).half()
    data = LatentSet(latents, latents * 0, torch.ones(1, 8).long(), torch.zeros(8).long())
    diffusion = Diffusion(torch.device("cpu"))
    batch = diffusion.batch(data, 32, torch.Generator().manual_seed(0))
    products = diffusion.scheduler.alphas_cumprod[batch.time].view(-1, 1, 1, 1)
    clean = (batch.latents - (1 - products).sqrt() * batch.noise) / products.sqrt()
    assert torch.allclose(clean, latents.float().expand_as(clean), atol=1e-4)
    assert len(batch.time.unique()) > 16
    some = torch.tensor([999, 249])
    batch = diffusion.batch(data, 32, torch.Generator().manual_seed(0), times=some)
    assert set(batch.time.tolist()) == set(some.tolist())


def test_an_interrupted_save_leaves_no_half_file(tmp_path: Path, monkeypatch) -> None:
    from demo_model.fit import save_whole

    save_whole({"a": torch.ones(2)}, tmp_path / "a.pt")

    def broken(data: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        save_whole({"a": torch.zeros(2)}, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["a"].sum() == 2
