"""Which GPUs engines are built for, here."""

import pytest
from kdexport.core.errors import OptionError, ProviderError
from kdexport.core.gpus import RTX_CAPABILITIES
from kdexport.core.tensorrt_options import TensorrtOptions
from kdexport.export.tensorrt import targets
from kdexport.export.tensorrt.targets import require_compatibility, require_target, resolve_targets


@pytest.fixture
def here(monkeypatch):
    """Puts a GPU of a compute capability into this machine."""
    return lambda *capability: monkeypatch.setattr(targets, "local_capability", lambda: capability)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("kdexport.export.tensorrt.device._DRIVERS", {})
    monkeypatch.setattr("kdexport.export.tensorrt.device.sys.platform", "linux")

    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("kdexport.export.tensorrt.device.ctypes.CDLL", missing)


def test_one_for_each_capability():
    options = TensorrtOptions(gpus=("4090", "RTX 4080", "L40S", "sm_120", "3090"))
    assert [each.target for each in resolve_targets(options)] == ["sm_89", "sm_120", "sm_86"]


@pytest.mark.parametrize(
    ("gpu", "target"), [("H100", "sm_90"), ("H200", "sm_90"), ("V100", "sm_70"), ("B200", "sm_100")]
)
def test_what_rtx_does_not_build_for(gpu, target):
    known = r"sm_75, sm_80, sm_86, sm_89, sm_120 or sm_121"
    message = (
        rf"TensorRT for RTX does not build for {gpu} \({target}\), only for {known}; choose "
        r"--engine native, on a machine that has that GPU\."
    )
    with pytest.raises(OptionError, match=message):
        resolve_targets(TensorrtOptions(gpus=("4090", gpu)))


@pytest.mark.parametrize("gpu", ["9000", "sm_99", "1.0", ""])
def test_unknown_names(gpu):
    with pytest.raises(OptionError, match=rf"'{gpu}'.*(in the table|; choose sm_70, )"):
        resolve_targets(TensorrtOptions(gpus=(gpu,)))


def test_every_capability_is_one_of_the_library():
    library = pytest.importorskip("tensorrt_rtx")
    names = {each for each in library.ComputeCapability.__members__ if each.startswith("SM")}
    assert {f"SM{major}{minor}" for major, minor in RTX_CAPABILITIES} <= names
    for capability in RTX_CAPABILITIES:
        require_target("rtx", capability)


def test_this_gpu(here):
    here(8, 9)
    for engine in ("rtx", "native"):
        (gpu,) = resolve_targets(TensorrtOptions(gpus=("this",), engine=engine))
        assert (gpu.name, gpu.capability) == ("sm_89", (8, 9))
    here(9, 0)
    with pytest.raises(OptionError, match=r"does not build for sm_90, only for .*--engine native"):
        resolve_targets(TensorrtOptions(gpus=("this",)))
    assert resolve_targets(TensorrtOptions(gpus=("this", "H200"), engine="native"))


@pytest.mark.parametrize("options", [{}, {"engine": "native"}])
def test_this_gpu_where_there_is_none(no_gpu, options):
    with pytest.raises(ProviderError, match=r"no NVIDIA driver .*; name one, such as --gpu 4090"):
        resolve_targets(TensorrtOptions(gpus=("this",), **options))


def test_native_without_a_gpu(no_gpu):
    with pytest.raises(ProviderError, match="no GPU to build for"):
        resolve_targets(TensorrtOptions(gpus=("H100",), engine="native"))


def test_native_for_another_gpu(here):
    here(8, 9)
    message = (
        r"TensorRT tunes engines on the GPU that they are for, and this machine's is sm_89, not "
        r"H100 \(sm_90\); choose --gpu this, build on a machine with that GPU, or choose "
        r"--engine rtx\."
    )
    with pytest.raises(OptionError, match=message):
        resolve_targets(TensorrtOptions(gpus=("H100",), engine="native"))


def test_bf16():
    with pytest.raises(OptionError, match=r"^--precision bf16 computes in bfloat16, .* sm_75 "):
        resolve_targets(TensorrtOptions(gpus=("4090", "T4"), precision="bf16"))
    assert resolve_targets(TensorrtOptions(gpus=("4090", "T4"), precision="fp16"))


def test_compatibility():
    message = r"'ampere-plus' begins with sm_80, and the engine is built on sm_75 \(T4, "
    with pytest.raises(OptionError, match=message):
        require_compatibility("ampere-plus", (7, 5))
    require_compatibility("ampere-plus", (8, 0))
    require_compatibility("same-capability", (7, 5))


def test_compatibility_is_known_with_the_options(here):
    here(7, 5)
    options = TensorrtOptions(gpus=("this",), engine="native", compatibility="ampere-plus")
    with pytest.raises(OptionError, match="'ampere-plus' begins with sm_80"):
        resolve_targets(options)
