"""GPUs by their public data sheets: dense peak rates, without sparsity. No figure here was measured by us."""

from dataclasses import dataclass

from sampler.errors import InvalidParams


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Bytes are decimal, rates are a second's.

    `link_bytes_s` is what it can send to its peers while it receives as much: half of a data sheet's total, which
    adds both directions. `per_node` GPUs are joined by such links.
    """

    name: str
    memory_bytes: float
    bandwidth_bytes_s: float
    bf16_flops_s: float
    fp8_flops_s: float
    fp32_flops_s: float
    link_bytes_s: float
    per_node: int
    source: str

    def flops_s(self, dtype: str) -> float:
        """Peak rate at which weights of a type are multiplied; A100 has no fp8 and computes it in bf16."""
        rates = {"fp8": self.fp8_flops_s, "bf16": self.bf16_flops_s, "fp32": self.fp32_flops_s}
        return rates[dtype]


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100", 80e9, 2.039e12, 312e12, 312e12, 19.5e12, 300e9, 8, "NVIDIA A100 80GB SXM data sheet, 2021"),
        Gpu("L40S", 48e9, 0.864e12, 362e12, 733e12, 91.6e12, 32e9, 8, "NVIDIA L40S data sheet, 2023; no NVLink, "
            "PCIe 4 x16"),
        Gpu("H100", 80e9, 3.35e12, 989e12, 1979e12, 67e12, 450e9, 8, "NVIDIA H100 SXM data sheet, 2023; half of its "
            "rates with sparsity"),
        Gpu("H200", 141e9, 4.8e12, 989e12, 1979e12, 67e12, 450e9, 8, "NVIDIA H200 SXM data sheet, 2024; half of its "
            "rates with sparsity"),
        Gpu("B200", 180e9, 8.0e12, 2250e12, 4500e12, 75e12, 900e9, 8, "NVIDIA HGX B200 data sheet, 2025: an eighth of "
            "the board, half of its rates with sparsity"),
    )
}  # fmt: skip
"""GPUs by name."""


def gpu_of(name: str) -> Gpu:
    """A GPU by its name, in any case."""
    if name.upper() not in GPUS:
        raise InvalidParams("gpu", f"--gpu: unknown GPU {name!r}; choose one of {', '.join(GPUS)}")
    return GPUS[name.upper()]
