"""A toy network with all that matters to the conversion, and its program."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.ports import AppleModule, ApplePort
from torch import nn

SIZE = {"height": 8, "width": 8}


class Attention(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, tokens, context):
        scores = (self.to_q(tokens) * 0.125) @ self.to_k(context).transpose(1, 2)
        return tokens + self.to_out[0](scores.softmax(-1) @ self.to_v(context))


class Net(nn.Module):
    """Down, across and up again, with a skip connection, a timestep and a context."""

    def __init__(self, width=64, context=48):
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, -2, 16))
        self.time = nn.Linear(32, width)
        self.conv_in = nn.Conv2d(4, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, width)
        self.attn = Attention(width, context)
        self.conv_out = nn.Conv2d(2 * width, 4, 3, padding=1)

    def forward(self, sample, timestep, context):
        angles = timestep[:, None] * self.frequencies
        emb = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        first = self.conv_in(sample) + emb[:, :, None, None]
        hidden = nn.functional.silu(self.norm(self.down(first)))
        tokens = hidden.flatten(2).transpose(1, 2)
        tokens = self.attn(tokens, context.squeeze(2).transpose(1, 2))
        hidden = tokens.transpose(1, 2).reshape(hidden.shape)
        hidden = nn.functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
        return self.conv_out(torch.cat([hidden, first], dim=1))


class Toy(AppleModule):
    summary = "A toy."

    def __init__(self):
        super().__init__(Net())
        half, single = torch.float16, torch.float32
        latents = (2, 4, "height", "width")
        self.inputs = (
            ApplePort("sample", half, latents, "The latents.", "sample"),
            ApplePort("timestep", half, (2,), "The time.", "timestep"),
            ApplePort("context", half, (2, 48, 1, 5), "The text.", "context"),
        )
        self.outputs = (ApplePort("noise_pred", single, latents, "The noise.", "out_sample"),)

    def forward(self, *inputs):
        return (self.inner(*inputs),)


def make_toy():
    torch.manual_seed(0)
    toy = Toy()
    with torch.no_grad():
        toy.inner.norm.weight.normal_(1.0, 0.2)
        toy.inner.norm.bias.normal_(0.0, 0.2)
    return toy.requires_grad_(False)


def make_feed(toy, size):
    numbers = np.random.default_rng(0)
    feed = {
        port.name: numbers.normal(size=port.sizes(size)).astype(np.float16) for port in toy.inputs
    }
    return feed | {"timestep": np.full(2, 801, np.float16)}


def expected(toy, feed):
    with torch.no_grad():
        return toy(*(torch.from_numpy(each).float() for each in feed.values()))[0].numpy()


@pytest.fixture(scope="session")
def toy():
    """The module, what to feed it, what it gives, and a fresh copy of its program."""
    module, programs = make_toy(), {}
    feed = make_feed(module, SIZE)

    def program(target="iOS17"):
        if target not in programs:
            programs[target] = to_program(module, [SIZE], target)
        return copy.deepcopy(programs[target])

    operations = program().functions["main"].operations
    chain = ("model_unsqueeze", "model_mul", "model_sin", "model_cos", "model_cat")
    return SimpleNamespace(
        # The angles of the timestep, which float16 cannot hold.
        islands={op.name for op in operations if op.op_type != "const" and op.name in chain},
        module=module,
        size=SIZE,
        feed=feed,
        given=expected(module, feed),
        program=program,
        make=make_toy,
        make_feed=make_feed,
        expected=expected,
    )


@pytest.fixture(scope="session")
def small() -> ModuleType:
    """What the tests of compressed programs share: the module `compressing.py` beside this file."""
    name = "kdexport_coreml_tests_compressing"
    if name not in sys.modules:
        path = Path(__file__).with_name("compressing.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
