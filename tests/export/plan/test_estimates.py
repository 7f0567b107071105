"""The lines that plans are drawn with go through what was measured, as the documentation has it."""

import re
from pathlib import Path

import pytest
from kdexport.export.plan import estimates
from kdexport.export.plan.types import Machine
from kdexport.export.summary import PartSummary, Summary
from kdexport.export.tensorrt.memory import memory_needed
from kdexport.export.zoo import zoo

DOCS = Path(__file__).parents[3] / "docs"
ROW = re.compile(r"^\| ([\w.-]+) \| (\d+) \| ([\d.]+) GB \| ([^|]+) \|", re.MULTILINE)
MACHINE = Machine(rate=235e9, free_memory=None, free_disk=0)


def measured():
    """Of every model at full size: its name and peak memory in GB."""
    rows = ROW.findall((DOCS / "full_size.md").read_text(encoding="utf-8"))
    return [(name, float(peak)) for name, _, peak, _ in rows]


def summary_of(name, size):
    """What the tests need to know of a model of the zoo, counted elsewhere."""
    entry = zoo()[name]
    expected = {**entry.unet.expected, **entry.vae.expected}
    for encoder in entry.text_encoders:
        expected |= encoder.expected
    parts = tuple(
        # What memory depends on is parameters only.
        PartSummary(role, "", figures.parameters, 0)
        for role, figures in expected.items()
    )
    return Summary(
        model=name,
        pipeline_class="",
        parts=parts,
        height=size,
        width=size,
        multiple=64,
        scheduler="",
        steps=entry.steps,
        calls=entry.steps,
        guidance=entry.guidance,
        negative_prompt=None,
        random_weights=True,
    )


def test_there_are_enough_figures():
    assert len(measured()) >= 18


@pytest.mark.parametrize(("name", "peak"), measured())
def test_memory_of_comparisons(name, peak):
    # All were compared at 512x512.
    stage = estimates.comparison(summary_of(name, 512), MACHINE, 4, evaluated=False)
    assert stage.peak_rss / 1e9 == pytest.approx(peak, rel=0.3)


def test_memory_grows_with_the_picture():
    # KOALA-700M at 1024x1024, docs/tensorrt.md.
    stage = estimates.comparison(summary_of("koala-700m", 1024), MACHINE, 4, evaluated=False)
    assert stage.peak_rss / 1e9 == pytest.approx(11.7, rel=0.2)


def exports():
    """Of whole pipelines: components, GB written, seconds and peak memory in GB."""
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (BK-SDM-Small|KOALA-[^|]+|SSD-1B), whole pipeline \| [^|]+ "
        r"\| ([\d.]+) \| ([\d.]+) GB \| ([\d,]+) MB \|",
        text,
        re.MULTILINE,
    )
    for name, seconds, peak, written in rows:
        components = 3 if name.startswith("BK") else 4
        yield components, float(written.replace(",", "")) / 1e3, float(seconds), float(peak)


def test_exports_to_onnx():
    found = [*exports()]
    assert len(found) == 8
    for components, written, seconds, peak in found:
        stage = estimates.onnx_export(int(written * 1e9), components)
        assert stage.seconds == pytest.approx(seconds, rel=0.2)
        assert stage.peak_rss / 1e9 == pytest.approx(peak, rel=0.25)


@pytest.mark.parametrize(
    ("gigabytes", "seconds"), [((0.246, 0.965, 0.099), 26), ((0.246, 1.39, 1.57, 0.198), 59)]
)
def test_seconds_of_engines(gigabytes, seconds):
    sizes = [int(each * 1e9) for each in gigabytes]
    assert estimates.engines(sizes, 1, 0).seconds == pytest.approx(seconds, rel=0.15)
    assert estimates.engines(sizes, 2, 0).seconds == pytest.approx(2 * seconds, rel=0.15)


@pytest.mark.parametrize(("gigabytes", "peak"), [(0.965, 3.6), (1.57, 5.5)])
def test_memory_of_engines(gigabytes, peak):
    assert memory_needed(int(gigabytes * 1e9)) / 1e9 == pytest.approx(peak, rel=0.1)
