import pytest
from kdexport.core.errors import ExportError, OptionError
from kdexport.export.coreml.chunk import split_program
from kdexport.export.coreml.compress import compress
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.half import to_half
from kdexport.export.coreml.metadata import PackageMetadata
from kdexport.export.coreml.save import save_packages
from kdexport.export.coreml.toolbox import deployment_target
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.package import read_package


def save(toy, paths, plan=None):
    return save_packages(
        toy.program(),
        paths,
        inputs=toy.module.inputs,
        outputs=toy.module.outputs,
        precision="fp16",
        islands=toy.islands,
        target="iOS17",
        metadata=PackageMetadata("x"),
        plan=plan,
    )


@pytest.mark.parametrize("name", [None, "palette6"])
def test_chunks_give_what_the_whole_gives(toy, small, tmp_path, name):
    plan = small.plan_of_all(name) if name else None
    (whole,) = save(toy, [tmp_path / "Unet.mlpackage"], plan)
    paths = [tmp_path / f"UnetChunk{number}.mlpackage" for number in (1, 2)]
    chunks = save(toy, paths, plan)
    feed = dict(toy.feed)
    for each in chunks:
        package = read_package(each.path)
        feed |= Evaluator(package.function).run(feed)
    expected = Evaluator(read_package(whole.path).function).run(toy.feed)["noise_pred"]
    assert (feed["noise_pred"] == expected).all()
    first, second = chunks
    assert [each.path for each in chunks] == paths
    assert [each.name for each in second.outputs] == ["noise_pred"]
    crossing = {each.name: each for each in first.outputs}
    assert crossing.items() <= {each.name: each for each in second.inputs}.items()
    own = {port.name for port in toy.module.inputs}
    assert {each.name for each in second.inputs} == {*crossing, "context"}
    assert {each.name for each in first.inputs} <= own
    # Nothing is stored twice.
    assert first.parameters + second.parameters == whole.parameters
    compressed = [each.name for chunk in chunks for each in chunk.compressed]
    assert sorted(compressed) == sorted(each.name for each in whole.compressed)


def test_balance(toy):
    program = to_half(toy.program(), (), deployment_target("iOS17"))
    chunks = split_program(program)
    # The largest weight is more than a third of all, so that a twentieth cannot be met.
    assert max(chunks.weights) / sum(chunks.weights) < 0.7
    assert chunks.crossing
    assert chunks.crossing_bytes > 0


@pytest.mark.parametrize(
    ("name", "most"),
    [("palette4", 0.35), ("int4", 0.35), ("int8", 0.58), ("sparse50-palette6", 0.35)],
)
def test_compressed_weights_count_as_they_are_stored(toy, small, name, most):
    program = small.half_program(toy, "iOS18")
    dense = sum(split_program(program).weights)
    compress(program, small.plan_of_all(name), "iOS18")
    assert sum(split_program(program).weights) < most * dense


def test_several_sizes(toy):
    sizes = ({"height": 8, "width": 8}, {"height": 4, "width": 16})
    with pytest.raises(OptionError, match="several sizes cannot be split"):
        split_program(to_program(toy.module, sizes, "iOS17"))


def test_a_program_with_nothing_to_cut(toy):
    """Its first operation gives the output already."""
    program = toy.program()
    function = program.functions["main"]
    first = next(each for each in function.operations if each.op_type != "const")
    function.set_outputs([first.outputs[0]])
    with pytest.raises(ExportError, match="cannot be split in two"):
        split_program(program)
