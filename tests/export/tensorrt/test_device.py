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

        def get_name(place, length, handle):
            place.value = b"NVIDIA GeForce RTX 4090"
            return 100 if refusing == "name" or length < 24 else 0

        library = SimpleNamespace(
            cuInit=lambda flags: 100 if refusing == "init" else 0,
            cuDeviceGet=lambda place, index: 101 if refusing == "device" else 0,
            cuDeviceGetAttribute=get_attribute,
            cuDeviceGetName=get_name,
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


def test_name(driver):
    driver()
    assert device.local_name() == "NVIDIA GeForce RTX 4090"


@pytest.mark.parametrize("call", ["init", "device", "name"])
def test_a_gpu_without_a_name(driver, call):
    driver(refusing=call)
    with pytest.raises(ProviderError, match="names no GPU on this machine"):
        device.local_name()
