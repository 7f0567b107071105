"""Parity records as JUnit XML: what those who read it expect of it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from kdexport.core.compare import GATES, compare, compare_images
from kdexport.core.errors import BundleError
from kdexport.core.junit import junit_xml, write_junit
from kdexport.core.parity import ComponentCheck, ImageCheck, ParityRecord, QualityCheck

FACTS = {"kdexport": "0.1.0", "python": "3.11.2"}
# Of each element what it must have, what it may have, and what may be in it: the schema that
# readers of JUnit files have in common.
SCHEMA = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, {"skipped"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"timestamp", "hostname"},
        {"properties", "testcase"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name", "classname", "time"}, set(), {"failure", "system-out"}),
    "failure": ({"message", "type"}, set(), set()),
    "system-out": (set(), set(), set()),
}


def component(error, role="unet", output="out_sample"):
    difference = compare(np.ones(8) + error, np.ones(8))
    passed = GATES["fp32"].component_passes(difference)
    gate = "relative L2 ≤ 0.0001"
    return ComponentCheck(role, output, "64x64", "fp32", gate, difference, passed)


def run(level, prompt="a cat", broken=None):
    image = np.full((16, 16, 3), 100, np.uint8)
    images = () if broken else (compare_images(image + np.uint8(level), image),)
    passed = bool(images) and GATES["fp32"].image_passes(images[0])
    return ImageCheck("64x64, 2 calls", prompt, "PSNR ≥ 45 dB", (), images, passed, broken)


def record(components=(), runs=(), quality=None):
    return ParityRecord(
        {"model": "maker/model", "torch": "2.13"},
        {"engine": "onnxruntime", "provider": "cpu"},
        components,
        runs,
        {"components": 1.5, "images": 0.25},
        quality,
        {"steps": 2, "prompts": ["a cat"]},
    )


def valid(text):
    """Parses a file and holds it against `SCHEMA`, the sums against what is there."""
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        must, may, inside = SCHEMA[element.tag]
        assert must <= set(element.keys()) <= must | may
        assert {each.tag for each in element} <= inside
    (suite,) = root
    # Properties come first.
    assert [each.tag for each in suite].index("properties") == 0
    cases = suite.findall("testcase")
    for element in (root, suite):
        assert int(element.get("tests")) == len(cases)
        assert int(element.get("failures")) == len(suite.findall("testcase/failure"))
        assert element.get("errors") == "0"
        assert re.fullmatch(r"\d+\.\d{3}", element.get("time"))
    names = [(each.get("classname"), each.get("name")) for each in cases]
    assert len(set(names)) == len(names)
    return suite


def test_a_test_for_each_gate():
    checks = (component(0.0, "text_encoder", "last"), component(1e-6))
    suite = valid(junit_xml(record(checks, (run(0), run(1, "a dog"))), "out", FACTS))
    assert suite.get("name") == "kdexport parity"
    assert suite.get("time") == "1.750"
    found = {each.get("classname"): each.get("name") for each in suite.findall("testcase")}
    assert found == {
        "parity.text_encoder": "last at 64x64",
        "parity.unet": "out_sample at 64x64",
        "parity.image": "a dog at 64x64, 2 calls",
    }
    assert "PSNR 120.0 dB, needed relative L2" in suite.findall("testcase/system-out")[1].text


def test_what_it_ran_on():
    suite = valid(junit_xml(record((component(0.0),)), "out", FACTS))
    found = {each.get("name"): each.get("value") for each in suite.findall("properties/property")}
    assert found == {
        "bundle": "out",
        **FACTS,
        "reference.model": "maker/model",
        "reference.torch": "2.13",
        "runtime.engine": "onnxruntime",
        "runtime.provider": "cpu",
        "drawn.steps": "2",
        "drawn.prompts": "['a cat']",
    }


def test_failures_have_figures():
    scores = {"overall": 0.7}, {"overall": 0.82}
    quality = QualityCheck(64, *scores, 0, "at most 5 points lower", False)
    checks = (component(1e-2), component(np.nan), component(0.0, "vae_decoder"))
    found = record(checks, (run(50), run(0, broken="NaN at call 3"), run(0)), quality)
    suite = valid(junit_xml(found, "out", FACTS))
    messages = [each.get("message") for each in suite.findall("testcase/failure")]
    assert tuple(messages) == found.failures()
    assert len(messages) == 5
    assert messages[0].startswith("unet out_sample at 64x64: relative L2 1.00e-02, PSNR 40.0 dB")
    assert {each.text for each in suite.findall("testcase/failure")} == set(messages)
    failed = {each.get("classname") for each in suite.findall("testcase[failure]")}
    assert failed == {"parity.unet", "parity.image", "parity.captions"}
    # Equal names are told apart.
    names = [each.get("name") for each in suite.findall("testcase")]
    assert names[:2] == ["out_sample at 64x64", "out_sample at 64x64 (2)"]


@pytest.mark.parametrize(
    "prompt", ["<a> & \"b\" 'c' ]]>", "a\nb\tc", "\x00\x1b[31m\ud800\uffff", "é猫😀"]
)
def test_any_prompt_is_xml(prompt):
    suite = valid(junit_xml(record((), (run(50, prompt),)), prompt, {"x": prompt}))
    (case,) = suite.findall("testcase")
    assert case.get("name").endswith(" at 64x64, 2 calls")
    if "\x00" not in prompt:
        shown = suite.find("properties/property[@name='x']").get("value")
        assert shown == prompt


def test_no_gates():
    assert not valid(junit_xml(record(), "out", {})).findall("testcase")


def test_the_file(tmp_path):
    file = tmp_path / "new" / "junit.xml"
    for error in (1.0, 0.0):
        write_junit(record((component(error),)), "out", FACTS, file)
    text = file.read_text(encoding="utf-8")
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    assert not valid(text).findall("testcase/failure")
    assert [each.name for each in file.parent.iterdir()] == ["junit.xml"]
    with pytest.raises(BundleError, match="is a folder; choose a file"):
        write_junit(record(), "out", FACTS, tmp_path)
