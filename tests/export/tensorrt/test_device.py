"""The GPU of this machine, as NVIDIA's driver names it."""

from types import SimpleNamespace

import pytest
from kdexport.core.errors import ProviderError
from kdexport.export.tensorrt import device

ANSWERS = {75: 8, 76: 9}


@pytest.fixture
def driver(monkeypatch):
    """A driver in the place of NVIDIA's, which may refuse one of its calls."""
    opened = []

    def install(refusing=None, platform="linux"):
        def get_attribute(place, attribute, handle):
            place._obj.value = ANSWERS[attribute]
            return 100 if refusing == "attribute" else 0

        library = SimpleNamespace(
            cuInit=lambda flags: 100 if refusing == "init" else 0,
            cuDeviceGet=lambda place, index: 101 if refusing == "device" else 0,
            cuDeviceGetAttribute=get_attribute,
        )
        monkeypatch.setattr(device.sys, "platform", platform)
        monkeypatch.setattr(device.ctypes, "CDLL", lambda name: opened.append(name) or library)
        return opened

    return install


@pytest.mark.parametrize(("platform", "name"), [("linux", "libcuda.so.1"), ("win32", "nvcuda.dll")])
def test_capability(driver, platform, name):
    opened = driver(platform=platform)
    assert device.local_capability() == (8, 9)
    assert opened == [name]


@pytest.mark.parametrize(("call", "code"), [("init", 100), ("device", 101), ("attribute", 100)])
def test_a_driver_without_a_gpu(driver, call, code):
    driver(refusing=call)
    with pytest.raises(ProviderError, match=rf"names no GPU .* \(its error code is {code}\)"):
        device.local_capability()
