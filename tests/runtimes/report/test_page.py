"""The report as a file; what it looks like is in `test_browser.py`."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from kdexport.cli.verify import verify as verify_command
from kdexport.runtimes.report.page import write_report
from kdexport.runtimes.report.view import report_view

_VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Text and addresses of a page, whose elements must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.addresses = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in {"src", "href"}]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in {"src", "href"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "script"}:
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def page(tmp_path, manifest, record, pictures):
    return Page(write_report(tmp_path, "b", manifest, record, pictures).read_text(encoding="utf-8"))


def test_a_verdict_and_everything_behind_it(tmp_path, manifest, found):
    made = page(tmp_path, manifest, *found(quality=True))
    text = made.text
    assert text.index("Passed") < text.index("maker/model as ONNX") < text.index("Pictures")
    assert "The bundle draws what diffusers draws." in text
    assert "gates held 5 of 5" in text
    for part in (
        *("4,100,000", "1.20 GB", "72", "30 palette6, 2 palette8", "time_proj: loses digits"),
        *("onnxruntime", "torch 2.13", "abc", "16 captions", "80.0 %", "PSNR equal, SSIM 1.0000"),
    ):
        assert part in text
    assert "failed" not in text.lower()
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_it_needs_nothing_else(tmp_path, manifest, found):
    made = page(tmp_path, manifest, *found())
    assert len(made.addresses) > 10
    assert all(each.startswith("data:") for each in made.addresses)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http:" not in source
    assert "https:" not in source
    assert "url(" not in source


def test_a_failure_says_what_failed_first(tmp_path, manifest, found):
    record, pictures = found(errors=(0.0, 1e-2), levels=(60,), broken="NaN at call 3")
    text = page(tmp_path, manifest, record, pictures).text
    assert text.index("Failed") < text.index("does not draw") < text.index("PSNR 40.0 dB")
    assert text.index("NaN at call 3") < text.index("Pictures")
    assert "gates held 1 of 4" in text


def test_captions_that_fail_are_counted(tmp_path, manifest, found):
    record, pictures = found(quality=True)
    record = replace(record, quality=replace(record.quality, passed=False))
    text = page(tmp_path, manifest, record, pictures).text
    assert "gates held 4 of 5" in text
    assert text.index("captions: 90.0 of 100") < text.index("Pictures")


def test_what_is_not_finite(tmp_path, manifest, found):
    text = page(tmp_path, manifest, *found(errors=(math.nan,))).text
    assert "lowest PSNR of a component NaN or Inf" in text


def test_a_prompt_is_text(tmp_path, manifest, found):
    made = page(tmp_path, manifest, *found(prompt='</h3><script>alert(1)</script> & "co"'))
    assert '<script>alert(1)</script> & "co"' in made.text


def test_outputs_by_the_dozen(manifest, hidden_states):
    view = report_view(manifest, "b", hidden_states.record, hidden_states.pictures)
    shown = [each["output"] for each in view["components"]]
    assert shown == ["out_sample", "out_sample", "hidden_states.2"]
    assert view["hidden"] == 1


@pytest.mark.parametrize("prompt", ["a cat", 'it\'s "art" & $HOME; rm'])
def test_the_command_says_the_same_again(manifest, found, prompt):
    record, pictures = found(prompt=prompt)
    install, verify = report_view(manifest, "my bundle", record, pictures)["commands"]
    assert install == "pip install kdexport==0.1.0 torch==2.13 diffusers==0.42 transformers==5.23"
    _, name, *arguments = shlex.split(verify)
    parameters = verify_command.make_context(name, arguments).params
    assert str(parameters["bundle"]) == "my bundle"
    assert parameters["prompts"] == (prompt,)
    expected = {"steps": 4, "seed": 3, "guidance": 7.5, "size": (48, 64), "runtime": "onnxruntime"}
    assert {each: parameters[each] for each in expected} == expected


def test_a_record_of_an_older_version(manifest, found):
    record, pictures = found()
    view = report_view(manifest, "b", replace(record, drawn={}), pictures)
    assert view["commands"][1] == "kdexport verify b --runtime onnxruntime --provider cpu"


def test_another_reference_is_named(manifest, found):
    record, pictures = found()
    record = replace(record, reference={**record.reference, "model": "an other"})
    command = report_view(manifest, "b", record, pictures)["commands"][1]
    assert command.startswith("kdexport verify b --against 'an other' --steps 4")


def test_it_is_replaced_whole(tmp_path, manifest, found):
    page(tmp_path, manifest, *found(errors=(1.0,)))
    assert "Passed" in page(tmp_path, manifest, *found()).text
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
