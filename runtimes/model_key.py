"""What a model file is: its record in the bundle around it, and a key for what is made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..core.folder import sha256_of
from ..core.manifest import MANIFEST_NAME, Component, Manifest, load_manifest


def recorded(model: Path) -> tuple[Manifest | None, Component | None]:
    """The manifest of the bundle around a model, and its component; None where there is none.

    Raises:
        BundleError: The manifest cannot be read.
    """
    bundle = model.parent.parent
    if not (bundle / MANIFEST_NAME).is_file():
        return None, None
    manifest = load_manifest(bundle)
    file = model.relative_to(bundle).as_posix()
    return manifest, next((each for each in manifest.components if each.file == file), None)


def model_key(
    model: Path, manifest: Manifest | None, settings: Any, libraries: Iterable[str]
) -> str:
    """SHA-256 of what something that is compiled from a model depends on.

    Args:
        model: The `.onnx` file; its weights lie in the `.data` file beside it.
        manifest: Of the bundle around it, whose hashes are believed, or None.
        settings: How it is compiled, as JSON values.
        libraries: Packages whose versions count, those that are installed.
    """
    files = (model, model.with_name(f"{model.name}.data"))
    known = {} if manifest is None else {each.path: each.sha256 for each in manifest.files}
    hashes = [
        known.get(f"{file.parent.name}/{file.name}") or sha256_of(file)
        for file in files
        if file.is_file()
    ]
    text = json.dumps([hashes, settings, dict(_versions(libraries))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _versions(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
