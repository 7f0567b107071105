"""The manifest: everything that a runtime needs to know about a bundle, and nothing to guess.

`manifest.json` lies at the root of every bundle. Its JSON Schema is `manifest.schema.json` beside
this module; the Python, Swift and JavaScript runtimes all read the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema

from .adapters import Adapter
from .compare import Gates, either, expected_gates, gated_as, gates_for, weakest
from .errors import BundleError, listing
from .folder import downloads_cache, is_downloaded, sha256_of, whole_file
from .records import decode, encode
from .sampler import Sampler

MANIFEST_NAME = "manifest.json"
PARITY_NAME = "parity.json"
REPORT_NAME = "report.html"
CARD_NAME = "README.md"
# What the commands of a card call the bundle; `kdexport push` puts the repository's id there.
CARD_PLACEHOLDER = "path/to/bundle"
# What TensorRT for RTX compiled on this machine; no part of the bundle.
RUNTIME_CACHE = ".rtx_cache"
SCHEMA_VERSION = 1

# Component roles, in the order in which a run uses them.
ROLES = ("text_encoder", "text_encoder_2", "controlnet", "unet", "vae_decoder", "vae_encoder")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `shape` holds sizes and the names of dynamic dimensions."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class FileRecord:
    """A file of the bundle: path relative to the bundle with `/`, hash and size."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Component:
    """One model of the pipeline.

    Attributes:
        role: One of `ROLES`.
        file: The file or folder that a runner opens, relative to the bundle; of a component in
            chunks the first of them.
        precision: Precision of its weights and activations.
        inputs: Inputs in order.
        outputs: Outputs in order.
        parameters: Number of weights.
        islands: What was kept in float32 inside a float16 component, in words.
        chunks: The files that are run one after the other, each fed what the component is fed and
            what those before it gave, by name; empty where `file` is all.
        ports: What an input or output of the files means, by its name: the name that the same
            tensor has in an ONNX bundle. Empty where the names are those.
        compression: How the weights were compressed, or None. Of ONNX files: `recipe` (its name),
            `formats` (number of weights in each), `layers` (how many of the convolutions and
            linear layers are `quantized`, of how many in `all`) and `macs` (the share of their
            multiplications that is). `expected` says what a recipe reached where it was made.
        operators: How many operators of each type the files compute with, constants not counted;
            those of ONNX Runtime's own are called `com.microsoft.NAME`. Empty where they were not
            counted.
        residual_scale: What the file itself multiplies the residuals of a ControlNet by, because
            it has no input for it: a run multiplies by the rest of its own scale.
    """

    role: str
    file: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    islands: tuple[str, ...] = ()
    chunks: tuple[str, ...] = ()
    ports: Mapping[str, str] = field(default_factory=dict)
    compression: Mapping[str, Any] | None = None
    operators: Mapping[str, int] = field(default_factory=dict)
    residual_scale: float = 1.0

    @property
    def files(self) -> tuple[str, ...]:
        """What is run, one after the other."""
        return self.chunks or (self.file,)

    @property
    def formats(self) -> Mapping[str, int]:
        """In how many weights each format is; empty where none is compressed."""
        compression = self.compression or {}
        # Bundles of kdexport before there were other formats than palettes.
        bits: Mapping[str, int] = compression.get("weights_by_bits", {})
        older = {f"palette{each}": count for each, count in bits.items()}
        formats: Mapping[str, int] = compression.get("formats", older)
        return formats

    @property
    def graded(self) -> str:
        """Whose parity gates apply: those of the precision, or of the coarsest weight format."""
        if not self.compression:
            return self.precision
        formats = self.compression.get("formats") or {f"palette{self.compression['bits']}": 1}
        return weakest([self.precision, *map(gated_as, formats)])

    @property
    def gates(self) -> Gates:
        """The parity gates: near what its recipe reached where that says so, else of `graded`."""
        expected = (self.compression or {}).get("expected")
        return expected_gates(self.precision, expected) if expected else gates_for(self.graded)

    def graded_in(self, precision: str | None) -> str:
        """`graded` where an engine computes in a precision of its own; None where it does not."""
        return self.graded if precision is None else weakest([self.graded, precision])

    def gates_in(self, precision: str | None) -> Gates:
        """`gates` where an engine computes in a precision of its own; None where it does not."""
        return self.gates if precision is None else either(self.gates, gates_for(precision))


@dataclass(frozen=True)
class TextEncoding:
    """How prompts become the inputs of the U-Net, for one text encoder.

    Attributes:
        role: The component that encodes.
        tokenizer: The file for the `tokenizers` library, relative to the bundle.
        max_length: Tokens per prompt, the markers at both ends included.
        bos_token_id: Marker at the start.
        eos_token_id: Marker at the end.
        pad_token_id: Fills up to `max_length`.
        hidden_output: Output that the U-Net's `encoder_hidden_states` is made of.
        pooled_output: Output that SDXL's `text_embeds` is made of, or None.
        negative_output: The same as `hidden_output` for negative prompts, or None where it is the
            same output: diffusers applies clip-skip to the prompts only.
    """

    role: str
    tokenizer: str
    max_length: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    hidden_output: str
    pooled_output: str | None = None
    negative_output: str | None = None


@dataclass(frozen=True)
class Latents:
    """The latent space: decoded are `latent / scaling_factor + shift_factor`.

    Attributes:
        channels: Latent channels.
        factor: Image pixels per latent cell, on each side.
        scaling_factor: Multiplied onto the encoder's latents.
        shift_factor: Subtracted before that.
    """

    channels: int
    factor: int
    scaling_factor: float
    shift_factor: float


@dataclass(frozen=True)
class Shapes:
    """Which sizes the components take.

    Attributes:
        multiple: Image height and width must be multiples of this many pixels.
        height: The only image height, or None where it is dynamic.
        width: The only image width, or None where it is dynamic.
        batch: The only number of U-Net rows, or None where it is dynamic.
        tested: Values of each dynamic dimension that parity was checked at, by component role and
            dimension name.
        sizes: The only pairs of image height and width where there are several, the default
            first; else empty.
    """

    multiple: int
    height: int | None
    width: int | None
    batch: int | None
    tested: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Defaults:
    """What a run uses where the user says nothing.

    Attributes:
        steps: Denoising steps.
        guidance: Guidance scale; at most 1 means one U-Net row per image.
        height: Image height in pixels.
        width: Image width in pixels.
        negative_prompt: Negative prompt, or None where the model has none.
        scheduler: Name of a sampler of the bundle.
    """

    steps: int
    guidance: float
    height: int
    width: int
    negative_prompt: str | None
    scheduler: str


@dataclass(frozen=True)
class ControlRecord:
    """How a picture steers a run, through the component `controlnet`.

    A control picture is inverted where `invert` says so, resized to the size of the image that is
    drawn (Lanczos, as Pillow does it, the aspect ratio not kept), turned to RGB and fed as
    `controlnet_cond` in [0, 1]. The outputs of the component are fed to the inputs of the U-Net
    that have the same names.

    Attributes:
        scale: Default of the ControlNet's input `conditioning_scale`.
        invert: Whether each 8-bit value of a picture is first subtracted from 255.
        channels: Channels of `controlnet_cond`.
    """

    scale: float
    invert: bool
    channels: int


@dataclass(frozen=True)
class CoremlRecord:
    """How a Core ML bundle was made.

    Attributes:
        target: Oldest system that its packages load on: `iOS16`, `iOS17` or `iOS18`, each with
            the macOS of the same year.
        compute_units: What the packages are meant to run on.
        attention: How attention is computed.
        slice_size: Queries per slice, or None where they are not sliced.
        rows: Rows of the U-Net's batch.
        prediction: What the U-Net was made to predict instead of what it was trained for, or None.
    """

    target: str
    compute_units: str
    attention: str
    slice_size: int | None
    rows: int
    prediction: str | None = None


@dataclass(frozen=True)
class EngineRecord:
    """A TensorRT engine of a component.

    Attributes:
        role: The component's.
        file: The engine, relative to the bundle.
        kind: `rtx` (TensorRT for RTX) or `native` (TensorRT).
        capability: Compute capability of the GPU that it is for, such as `sm_89`.
        tensorrt: Version of the library that built it.
        key: SHA-256 of all that determines it: the ONNX files, the profile, the target, the
            settings and the library's version.
        profile: Smallest, best and largest shape of each input.
        settings: How it was built, beside what the other fields say.
    """

    role: str
    file: str
    kind: str
    capability: str
    tensorrt: str
    key: str
    profile: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SamplerRecord:
    """A compiled sampler.

    Attributes:
        name: The name that `--scheduler` takes.
        scheduler: Class name of the diffusers scheduler.
        file: The tables (`Sampler`), relative to the bundle.
        steps: The step counts in it.
        image: The tables of image to image (`ImageSampler`), relative to the bundle, or None.
    """

    name: str
    scheduler: str
    file: str
    steps: tuple[int, ...]
    image: str | None = None


@dataclass(frozen=True)
class SourceRecord:
    """Where the model came from.

    Attributes:
        model: What the user named: a Hub id, a folder's name or `zoo:NAME`.
        revision: Commit of the Hub repository, or None.
        weights_sha256: SHA-256 of each weight file that was read, by path.
        pipeline_class: Class name of the diffusers pipeline.
        decoder: The VAE that replaced the pipeline's own, as the user named it, or None.
        base: The pipeline that gave what the model lacks, as the user named it, or None.
        config: The pipeline whose configs describe the model, as the user named it, or None.
        variant: Variant of the weight files that was asked for, or None.
        adapters: The adapters that were fused into the weights, in this order.
        random_weights: True where the weights were made up and the pictures mean nothing.
        controlnet: The ControlNet that was added to the pipeline, as the user named it, or None.
        clip_skip: Last layers of the text encoders that prompts skip, or None.
        licence: Licence of the weights as the model's card names it, or None where none is known.
        licence_link: Where that card says that the licence can be read, or None.
    """

    model: str
    revision: str | None
    weights_sha256: Mapping[str, str]
    pipeline_class: str
    decoder: str | None = None
    base: str | None = None
    config: str | None = None
    variant: str | None = None
    adapters: tuple[Adapter, ...] = ()
    random_weights: bool = False
    controlnet: str | None = None
    clip_skip: int | None = None
    licence: str | None = None
    licence_link: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A bundle's description.

    Attributes:
        schema_version: Version of this format.
        backend: `onnx`, `coreml` or `tensorrt`.
        family: Shape of the pipeline: `sd` or `sdxl`.
        tools: Versions of kdexport and of what it used, by package name.
        source: Where the model came from.
        components: The models.
        text: One entry per text encoder, in the order in which their outputs are concatenated.
        zero_negative: Whether an absent negative prompt means zero embeddings (SDXL).
        latents: The latent space.
        shapes: The sizes allowed.
        defaults: What a run uses by default.
        samplers: The compiled samplers, the model's own first.
        files: Every file but the manifest, and the parity record, its report and the model card,
            which `verify` may replace.
        parity: The record that `verify` wrote, or None where it was skipped.
        control: How a picture steers a run, or None where the bundle has no ControlNet.
        guidance_embedding: Size of the guidance embedding that the U-Net takes instead of a
            negative prompt (latent consistency models), or None.
        coreml: How the bundle was made, where `backend` is `coreml`; else None.
        engines: The TensorRT engines, where `backend` is `tensorrt`; the components are the ONNX
            files that they were built from.
        request: SHA-256 of what was asked for, model and options, where `backend` is `tensorrt`.
    """

    schema_version: int
    backend: str
    family: str
    tools: Mapping[str, str]
    source: SourceRecord
    components: tuple[Component, ...]
    text: tuple[TextEncoding, ...]
    zero_negative: bool
    latents: Latents
    shapes: Shapes
    defaults: Defaults
    samplers: tuple[SamplerRecord, ...]
    files: tuple[FileRecord, ...] = ()
    parity: Mapping[str, Any] | None = None
    control: ControlRecord | None = None
    guidance_embedding: int | None = None
    coreml: CoremlRecord | None = None
    engines: tuple[EngineRecord, ...] = ()
    request: str | None = None

    def component(self, role: str) -> Component:
        """The component with `role`; raises `BundleError` naming the roles there are."""
        for component in self.components:
            if component.role == role:
                return component
        roles = listing([component.role for component in self.components])
        raise BundleError(f"The bundle has no component '{role}', only {roles}.")

    def bytes_of(self, component: Component) -> int:
        """What a component's files take: those named so, and those in folders named so."""
        starts = tuple(start for file in component.files for start in (f"{file}/", f"{file}.data"))
        return sum(
            record.bytes
            for record in self.files
            if record.path in component.files or record.path.startswith(starts)
        )


def load_manifest(bundle: Path) -> Manifest:
    """Reads and checks `manifest.json`; the files themselves are checked by `check_files`.

    Raises:
        BundleError: No bundle, no valid JSON, a newer schema, or a value that the schema refuses.
    """
    path = bundle / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(
            f"'{bundle}' is no kdexport bundle: it has no {MANIFEST_NAME}; make one with "
            "`kdexport onnx MODEL -o DIR`."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"'{path}' is not valid JSON ({error}); export again.") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"'{path}' has schema version {version}, this kdexport reads up to {SCHEMA_VERSION}; "
            "upgrade kdexport or export again."
        )
    problems = sorted(_validator().iter_errors(data), key=lambda problem: problem.json_path)
    if problems:
        raise BundleError(
            f"'{path}' does not fit its schema at {problems[0].json_path}: "
            f"{problems[0].message[:200]}; export again."
        )
    return decode(Manifest, data)


def save_manifest(manifest: Manifest, bundle: Path) -> None:
    """Writes `manifest.json` into `bundle`, checked against the schema first; it appears whole.

    An earlier one is replaced, not written to: it may be a link, hard ones included.

    Raises:
        BundleError: Nothing can be written there.
    """
    data = encode(manifest)
    _validator().validate(data)
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(bundle / MANIFEST_NAME, overwrite=True) as staging:
        staging.write_text(text + "\n", encoding="utf-8")


def record_files(bundle: Path) -> tuple[FileRecord, ...]:
    """Hashes every file below `bundle`, in path order.

    Left out are the manifest, what `verify` may replace, and what a runtime keeps there.
    """
    unrecorded = (MANIFEST_NAME, PARITY_NAME, REPORT_NAME, CARD_NAME, RUNTIME_CACHE)
    paths = sorted(path for path in bundle.rglob("*") if path.is_file())
    return tuple(
        FileRecord(path.relative_to(bundle).as_posix(), sha256_of(path), path.stat().st_size)
        for path in paths
        if path.relative_to(bundle).parts[0] not in unrecorded
    )


def check_files(manifest: Manifest, bundle: Path) -> None:
    """Raises `BundleError` naming the first file that is missing or differs from its record.

    Of a bundle from the Hub it also names what to delete, for else the same file is found again.
    """
    for record in manifest.files:
        path = bundle / PurePosixPath(record.path)
        if not path.is_file():
            raise BundleError(
                f"The bundle '{bundle}' lacks '{record.path}'; "
                f"{_how_to_replace(bundle, 'copy it again or export again')}."
            )
        if path.stat().st_size != record.bytes or sha256_of(path) != record.sha256:
            raise BundleError(
                f"'{record.path}' in the bundle '{bundle}' was changed or damaged after the "
                f"export; {_how_to_replace(bundle, 'copy the bundle again or export again')}."
            )


def _how_to_replace(bundle: Path, elsewhere: str) -> str:
    """What to do about a damaged bundle, which is `elsewhere` where it is not from the Hub."""
    if not is_downloaded(bundle):
        return elsewhere
    # The Hub's cache holds the same files, by hard links, and names its folders likewise.
    name = bundle.resolve().relative_to(downloads_cache().resolve()).parts[0]
    return (
        f"to download it again, delete that folder and 'models--{name}' in the Hub's cache, which "
        "shares its files (HF_HUB_CACHE, else hub in HF_HOME, else ~/.cache/huggingface/hub)"
    )


def load_sampler(manifest: Manifest, bundle: Path, name: str | None = None) -> Sampler:
    """Reads a sampler's tables, the default one where `name` is None.

    Raises:
        BundleError: The bundle holds no sampler of that name; the message lists those it holds.
    """
    wanted = name or manifest.defaults.scheduler
    for record in manifest.samplers:
        if record.name == wanted:
            text = (bundle / PurePosixPath(record.file)).read_text(encoding="utf-8")
            return Sampler.from_json(json.loads(text))
    names = listing([record.name for record in manifest.samplers])
    raise BundleError(
        f"The bundle holds no scheduler '{wanted}', only {names}; export again with "
        "--schedulers to add it."
    )


def _validator() -> Any:
    schema = Path(__file__).with_name("manifest.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(schema))
