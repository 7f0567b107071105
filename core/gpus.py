"""NVIDIA's GPUs by name: what engines are built for.

Compute capabilities and memory: NVIDIA's list at https://developer.nvidia.com/cuda-gpus and the
data sheets. Memory is None where a name has several sizes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import OptionError, choices, listing


@dataclass(frozen=True)
class Gpu:
    """What an engine is built for.

    Attributes:
        name: As the table names it, or `sm_89` where only the capability is known.
        capability: Compute capability, major and minor.
        memory_gb: Its memory in GB, or None where that is not known.
    """

    name: str
    capability: tuple[int, int]
    memory_gb: float | None = None

    @property
    def target(self) -> str:
        """The compute capability as engines name it, such as `sm_89`."""
        return target_name(self.capability)

    def __str__(self) -> str:
        return self.name if self.name == self.target else f"{self.name} ({self.target})"


GPUS: Mapping[str, Gpu] = {
    "4090": Gpu("4090", (8, 9), 24),
    "4080 Super": Gpu("4080 Super", (8, 9), 16),
    "4080": Gpu("4080", (8, 9), 16),
    "4070 Ti Super": Gpu("4070 Ti Super", (8, 9), 16),
    "4070 Ti": Gpu("4070 Ti", (8, 9), 12),
    "4070 Super": Gpu("4070 Super", (8, 9), 12),
    "4070": Gpu("4070", (8, 9), 12),
    "4060 Ti": Gpu("4060 Ti", (8, 9)),
    "4060": Gpu("4060", (8, 9), 8),
    "L40S": Gpu("L40S", (8, 9), 48),
    "L40": Gpu("L40", (8, 9), 48),
    "L20": Gpu("L20", (8, 9), 48),
    "L4": Gpu("L4", (8, 9), 24),
    "L2": Gpu("L2", (8, 9), 24),
    "RTX 6000 Ada": Gpu("RTX 6000 Ada", (8, 9), 48),
    "RTX 5000 Ada": Gpu("RTX 5000 Ada", (8, 9), 32),
    "RTX 4500 Ada": Gpu("RTX 4500 Ada", (8, 9), 24),
    "RTX 4000 Ada": Gpu("RTX 4000 Ada", (8, 9), 20),
    "RTX 2000 Ada": Gpu("RTX 2000 Ada", (8, 9), 16),
    "5090": Gpu("5090", (12, 0), 32),
    "5080": Gpu("5080", (12, 0), 16),
    "5070 Ti": Gpu("5070 Ti", (12, 0), 16),
    "5070": Gpu("5070", (12, 0), 12),
    "5060 Ti": Gpu("5060 Ti", (12, 0)),
    "5060": Gpu("5060", (12, 0), 8),
    "RTX PRO 6000 Blackwell": Gpu("RTX PRO 6000 Blackwell", (12, 0), 96),
    "RTX PRO 5000 Blackwell": Gpu("RTX PRO 5000 Blackwell", (12, 0), 48),
    "RTX PRO 4500 Blackwell": Gpu("RTX PRO 4500 Blackwell", (12, 0), 32),
    "RTX PRO 4000 Blackwell": Gpu("RTX PRO 4000 Blackwell", (12, 0), 24),
    "GB10": Gpu("GB10", (12, 1), 128),
    "3090 Ti": Gpu("3090 Ti", (8, 6), 24),
    "3090": Gpu("3090", (8, 6), 24),
    "3080 Ti": Gpu("3080 Ti", (8, 6), 12),
    "3080": Gpu("3080", (8, 6)),
    "3070 Ti": Gpu("3070 Ti", (8, 6), 8),
    "3070": Gpu("3070", (8, 6), 8),
    "3060 Ti": Gpu("3060 Ti", (8, 6), 8),
    "3060": Gpu("3060", (8, 6)),
    "3050": Gpu("3050", (8, 6)),
    "A40": Gpu("A40", (8, 6), 48),
    "A16": Gpu("A16", (8, 6), 16),
    "A10": Gpu("A10", (8, 6), 24),
    "A10G": Gpu("A10G", (8, 6), 24),
    "A2": Gpu("A2", (8, 6), 16),
    "A6000": Gpu("A6000", (8, 6), 48),
    "A5500": Gpu("A5500", (8, 6), 24),
    "A5000": Gpu("A5000", (8, 6), 24),
    "A4500": Gpu("A4500", (8, 6), 20),
    "A4000": Gpu("A4000", (8, 6), 16),
    "A2000": Gpu("A2000", (8, 6)),
    "A100": Gpu("A100", (8, 0)),
    "A800": Gpu("A800", (8, 0)),
    "A30": Gpu("A30", (8, 0), 24),
    "H100": Gpu("H100", (9, 0)),
    "H200": Gpu("H200", (9, 0), 141),
    "GH200": Gpu("GH200", (9, 0)),
    "B200": Gpu("B200", (10, 0)),
    "B300": Gpu("B300", (10, 3), 288),
    "Thor": Gpu("Thor", (11, 0), 128),
    "Orin": Gpu("Orin", (8, 7)),
    "T4": Gpu("T4", (7, 5), 16),
    "2080 Ti": Gpu("2080 Ti", (7, 5), 11),
    "2080 Super": Gpu("2080 Super", (7, 5), 8),
    "2080": Gpu("2080", (7, 5), 8),
    "2070 Super": Gpu("2070 Super", (7, 5), 8),
    "2070": Gpu("2070", (7, 5), 8),
    "2060 Super": Gpu("2060 Super", (7, 5), 8),
    "2060": Gpu("2060", (7, 5)),
    "Titan RTX": Gpu("Titan RTX", (7, 5), 24),
    "Quadro RTX 8000": Gpu("Quadro RTX 8000", (7, 5), 48),
    "Quadro RTX 6000": Gpu("Quadro RTX 6000", (7, 5), 24),
    "Quadro RTX 5000": Gpu("Quadro RTX 5000", (7, 5), 16),
    "Quadro RTX 4000": Gpu("Quadro RTX 4000", (7, 5), 8),
    "Xavier": Gpu("Xavier", (7, 2)),
    "V100": Gpu("V100", (7, 0)),
    "Titan V": Gpu("Titan V", (7, 0), 12),
}

# What TensorRT for RTX compiles for, as its `ComputeCapability` lists it (1.7).
RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))

# The first capability whose tensor cores compute in a type (NVIDIA's support matrix of TensorRT),
# or, of int4, that TensorRT for RTX builds for; those not named here are everywhere.
FIRST_CAPABILITY: Mapping[str, tuple[int, int]] = {
    "bfloat16": (8, 0),
    "int4": (8, 0),
    "float8": (8, 9),
    "float4": (10, 0),
}

_CAPABILITY = re.compile(r"(?:sm_?|compute_?)(\d{1,2})(\d)|(\d{1,2})\.(\d)")
_BRANDS = re.compile(r"nvidia|geforce|tesla|jetson|rtx")


def resolve_gpu(text: str) -> Gpu:
    """The GPU that a user names.

    Args:
        text: A name of the table, in any case and with or without blanks and `NVIDIA GeForce RTX`;
            or a compute capability as `sm_89`, `sm89` or `8.9`.

    Raises:
        OptionError: There is no such GPU or capability; the message says what comes close.
    """
    found = _CAPABILITY.fullmatch(text.strip().lower())
    if found:
        return _by_capability(text, (int(found[1] or found[3]), int(found[2] or found[4])))
    names = {_plain(name): gpu for name, gpu in GPUS.items()}
    if _plain(text) in names:
        return names[_plain(text)]
    close = [names[each].name for each in difflib.get_close_matches(_plain(text), names, n=3)]
    known = f"close to it: {listing(close)}" if close else f"some: {listing(GPUS)}"
    raise OptionError(
        f"There is no GPU '{text}' in the table ({known}); name any other by its compute "
        "capability, such as sm_89."
    )


def gpus_of(target: str) -> tuple[str, ...]:
    """Names of the GPUs with a compute capability such as `sm_89`."""
    return tuple(name for name, gpu in GPUS.items() if gpu.target == target)


def target_name(capability: tuple[int, int]) -> str:
    """A compute capability as engines name it, such as `sm_89`."""
    return f"sm_{capability[0]}{capability[1]}"


def describe(capability: tuple[int, int]) -> str:
    """A compute capability and who has it, such as `sm_80 (A100, A30 and 1 more)`."""
    target = target_name(capability)
    names = gpus_of(target)
    return f"{target} ({listing(names, 3)})" if names else target


def _by_capability(text: str, capability: tuple[int, int]) -> Gpu:
    known = sorted({gpu.capability for gpu in GPUS.values()})
    if capability not in known:
        raise OptionError(
            f"No GPU has the compute capability '{text}'; choose "
            f"{choices(target_name(each) for each in known)}."
        )
    return Gpu(target_name(capability), capability)


def _plain(name: str) -> str:
    return _BRANDS.sub("", re.sub(r"[\s_-]", "", name.lower()))
