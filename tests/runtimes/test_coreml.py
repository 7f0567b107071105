"""The runner of Core ML itself, as far as it goes without a Mac."""

import platform

import pytest
from kdexport.core.errors import OptionError, ProviderError
from kdexport.runtimes.coreml import CoremlRunner


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML is there")
def test_it_needs_a_mac(tmp_path):
    with pytest.raises(ProviderError, match="Apple's systems only; choose the runtime 'mil'"):
        CoremlRunner.create(tmp_path / "Unet.mlpackage", "all", None)


def test_options(tmp_path):
    with pytest.raises(OptionError, match="no compute units 'gpu'; choose all, cpu, cpu-only,"):
        CoremlRunner.create(tmp_path, "gpu", None)
    with pytest.raises(OptionError, match="Core ML chooses its threads itself"):
        CoremlRunner.create(tmp_path, "all", 2)
