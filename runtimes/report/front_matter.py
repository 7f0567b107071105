"""What a model card says to the Hub: the YAML at its top."""

from __future__ import annotations

from ...core.hub import is_repository_id
from ...core.manifest import Manifest
from .markdown import scalar

# What the Hub has names for; a card calls any other licence `other`
# (https://huggingface.co/docs/hub/repositories-licenses).
# fmt: off
LICENCES = frozenset({
    "afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0",
    "bigcode-openrail-m", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd",
    "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0",
    "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0",
    "cdla-permissive-2.0", "cdla-sharing-1.0", "creativeml-openrail-m", "deepfloyd-if-license",
    "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2",
    "fair-noncommercial-research-license", "gemma", "gfdl", "gpl", "gpl-2.0", "gpl-3.0",
    "h-research", "intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "llama2",
    "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl",
    "ncsa", "odbl", "odc-by", "ofl-1.1", "openmdw-1.0", "openrail", "openrail++", "osl-3.0",
    "other", "pddl", "postgresql", "unknown", "unlicense", "wtfpl", "zlib",
})
# fmt: on

_BACKEND_TAGS = {
    "onnx": ("onnx", "onnxruntime"),
    "coreml": ("coreml", "core-ml"),
    "tensorrt": ("tensorrt", "onnx"),
}
_FAMILY_TAGS = {"sd": "stable-diffusion", "sdxl": "stable-diffusion-xl"}


def front_matter(manifest: Manifest) -> tuple[str, ...]:
    """The lines of the YAML between the `---` at the top of a card.

    `base_model` is there where the source is a repository of the Hub whose weights were used, and
    its relation where they are stored in fewer bits and nothing else was added.
    """
    lines = ["library_name: kdexport", "pipeline_tag: text-to-image", *_licence(manifest)]
    base = base_model(manifest)
    if base is not None:
        lines.append(f"base_model: {scalar(base)}")
        if _only_quantized(manifest):
            lines.append("base_model_relation: quantized")
    tags = (*_BACKEND_TAGS[manifest.backend], "text-to-image", _FAMILY_TAGS[manifest.family])
    return (*lines, "tags:", *(f"- {tag}" for tag in tags))


def base_model(manifest: Manifest) -> str | None:
    """The Hub id of the model that a bundle was made of; None where it is none."""
    source = manifest.source
    # A folder may be called like a repository, but has no commit.
    if source.random_weights or source.revision is None or not is_repository_id(source.model):
        return None
    return source.model


def _licence(manifest: Manifest) -> list[str]:
    source = manifest.source
    if source.licence is None:
        return []
    lines = [f"license: {scalar(source.licence)}"]
    if source.licence not in LICENCES:
        lines = ["license: other", f"license_name: {scalar(source.licence)}"]
    if source.licence_link is not None:
        lines.append(f"license_link: {scalar(source.licence_link)}")
    return lines


def _only_quantized(manifest: Manifest) -> bool:
    source = manifest.source
    added = source.adapters or source.decoder or source.base or source.controlnet
    fewer = any(each.precision != "fp32" or each.compression for each in manifest.components)
    return fewer and not added
