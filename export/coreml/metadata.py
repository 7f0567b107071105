"""What a package says about itself: shown by Xcode and read by Apple's library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PackageMetadata:
    """What Xcode shows of a package.

    Attributes:
        summary: What the model is.
        author: Who made it.
        licence: Licence of the weights.
        version: Version of the model.
        extra: User-defined keys, such as `com.github.…`.
    """

    summary: str
    author: str = ""
    licence: str = ""
    version: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


def write_metadata(spec: Any, metadata: PackageMetadata, descriptions: Mapping[str, str]) -> None:
    """Fills in the description of a `Model_pb2.Model`, in place.

    Args:
        spec: The model.
        metadata: What it says about itself.
        descriptions: A sentence per input and output, by name.
    """
    about = spec.description.metadata
    # A date would make every package different, and what this one is made of says nothing.
    for key in ("conversion_date", "source"):
        about.userDefined.pop(f"com.github.apple.coremltools.{key}", None)
    about.shortDescription = metadata.summary
    about.author = metadata.author
    about.license = metadata.licence
    about.versionString = metadata.version
    for key in sorted(metadata.extra):
        about.userDefined[key] = metadata.extra[key]
    features: Sequence[Any] = [*spec.description.input, *spec.description.output]
    for feature in features:
        feature.shortDescription = descriptions.get(feature.name, "")
