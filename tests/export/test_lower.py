"""Programs in the operators that are translated as they are."""

import pytest
import torch
from kdexport.export.lower import lower
from torch import nn


def traced(function, *examples):
    class Module(nn.Module):
        def forward(self, *inputs):
            return function(*inputs)

    return torch.export.export(Module().eval(), examples)


def operators(program):
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def test_what_does_nothing_goes():
    def function(x):
        x = nn.functional.dropout(x.contiguous(), training=False).to(torch.float32)
        return nn.functional.silu(x.double()).to(dtype=torch.float32), x.float()

    program = traced(function, torch.randn(3, 4))
    expected = program.module()(torch.full((3, 4), 0.5))
    lower(program)
    assert operators(program) == [
        "aten._to_copy.default",
        "aten.silu.default",
        "aten._to_copy.default",
    ]
    assert program.run_decompositions({}) is program
    for ours, theirs in zip(program.module()(torch.full((3, 4), 0.5)), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: nn.functional.celu(x),  # not known
        lambda x: nn.functional.dropout(x, training=True),  # does something
        lambda x: x.clone().add_(1),  # in place
    ],
)
def test_other_programs_are_decomposed_as_always(function):
    program = traced(function, torch.randn(3, 4))
    before = operators(program)
    lower(program)
    assert operators(program) == before
    assert program.run_decompositions({}) is not program
