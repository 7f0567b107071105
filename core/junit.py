"""A parity record as JUnit XML, which continuous integration shows as tests: one for each gate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from .errors import BundleError
from .folder import require_vacant_file, whole_file
from .parity import ComponentCheck, ImageCheck, ParityRecord, QualityCheck

SUITE = "kdexport parity"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
# What XML 1.0 cannot say at all, not even escaped; a prompt may have it.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(record: ParityRecord, bundle: str, facts: Mapping[str, str], file: Path) -> None:
    """Writes a record as JUnit XML; the file appears whole, and replaces an earlier one.

    Args:
        record: What a verification found.
        bundle: Name of the bundle.
        facts: More properties of the test suite, such as what the machine is.
        file: Where to write it.

    Raises:
        BundleError: The file is a folder, or cannot be written there.
    """
    text = junit_xml(record, bundle, facts)
    with whole_file(file, overwrite=True) as staging:
        staging.write_text(text, encoding="utf-8")


def remove_junit(file: Path) -> None:
    """Removes what an earlier verification wrote, so that one that breaks off leaves no verdict.

    Raises:
        BundleError: The file is a folder, or cannot be removed.
    """
    require_vacant_file(file, overwrite=True)
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise BundleError(
            f"'{file}' cannot be replaced ({error.strerror}); choose another file."
        ) from error


def junit_xml(record: ParityRecord, bundle: str, facts: Mapping[str, str]) -> str:
    """A record as JUnit XML; see `write_junit`.

    There is one `testsuite` with a `testcase` for each gate, by component. The time of a single
    gate is not measured: the suite has that of all.
    """
    checks = list(_checks(record))
    failed = sum(not check.passed for _, _, check in checks)
    seconds = f"{sum(record.seconds.values()):.3f}"
    counts = {"tests": str(len(checks)), "failures": str(failed), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites", {"name": SUITE, **counts, "time": seconds})
    suite = ElementTree.SubElement(root, "testsuite", {"name": SUITE, **counts, "time": seconds})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(record, bundle, facts).items():
        ElementTree.SubElement(properties, "property", {"name": _legal(name), "value": value})
    for group, name, check in checks:
        case = {"classname": f"parity.{group}", "name": _legal(name), "time": "0"}
        element = ElementTree.SubElement(suite, "testcase", case)
        told = _legal(check.told)
        if not check.passed:
            failure = {"message": told, "type": "ParityError"}
            ElementTree.SubElement(element, "failure", failure).text = told
        ElementTree.SubElement(element, "system-out").text = told
    ElementTree.indent(root)
    # ElementTree's own declaration would name the encoding of the locale.
    return f"{_DECLARATION}\n{ElementTree.tostring(root, encoding='unicode')}\n"


def _checks(
    record: ParityRecord,
) -> Iterator[tuple[str, str, ComponentCheck | ImageCheck | QualityCheck]]:
    """Every gate with its group and a name that no other of the group has."""
    seen: dict[tuple[str, str], int] = {}
    for group, name, check in _named(record):
        seen[group, name] = seen.get((group, name), 0) + 1
        count = seen[group, name]
        yield group, name if count == 1 else f"{name} ({count})", check


def _named(
    record: ParityRecord,
) -> Iterator[tuple[str, str, ComponentCheck | ImageCheck | QualityCheck]]:
    for part in record.components:
        yield part.role, f"{part.output} at {part.case}", part
    for run in record.runs:
        yield "image", f"{run.prompt} at {run.case}", run
    if record.quality is not None:
        yield "captions", f"{record.quality.captions} captions", record.quality


def _properties(record: ParityRecord, bundle: str, facts: Mapping[str, str]) -> dict[str, str]:
    found = {"bundle": bundle, **facts}
    for title, values in (("reference", record.reference), ("runtime", record.runtime)):
        found |= {f"{title}.{name}": value for name, value in values.items()}
    found |= {f"drawn.{name}": str(value) for name, value in record.drawn.items()}
    return {name: _legal(value) for name, value in found.items()}


def _legal(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
