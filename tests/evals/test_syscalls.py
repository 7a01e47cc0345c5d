"""The system-call filter, executed here instruction by instruction as the kernel would."""

import struct

import pytest

from evals.sandbox.syscalls import AUDIT, REFUSED, SOCKET, seccomp_filter

ALLOWED, REFUSED_ACTION, KILLED = 0x7FFF0000, 0x00050001, 0x80000000
READ = {"x86_64": 0, "aarch64": 63}
SOCKETPAIR = {"x86_64": 53, "aarch64": 199}


def run(program: bytes, number: int, audit: int, *arguments: int) -> int:
    """What the filter says of a call: loads, jumps and returns of classic BPF."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *arguments, *([0] * (6 - len(arguments))))
    steps = list(struct.iter_unpack("<HBBI", program))
    place = accumulator = 0
    while True:
        operation, if_true, if_false, operand = steps[place]
        place += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif operation in (0x15, 0x35):
            holds = accumulator == operand if operation == 0x15 else accumulator >= operand
            place += if_true if holds else if_false
        else:
            assert operation == 0x06
            return operand


@pytest.mark.parametrize("machine", AUDIT)
def test_what_is_refused_and_what_is_not(machine: str) -> None:
    program, audit = seccomp_filter(machine), AUDIT[machine]
    assert program is not None
    column = list(AUDIT).index(machine)
    for name, numbers in REFUSED.items():
        assert run(program, numbers[column], audit) == REFUSED_ACTION, name
    refused = {numbers[column] for numbers in REFUSED.values()}
    for number in set(range(460)) - refused - {SOCKET[machine]}:
        assert run(program, number, audit) == ALLOWED
    assert {READ[machine], SOCKETPAIR[machine]} & refused == set()


@pytest.mark.parametrize("machine", AUDIT)
def test_sockets_are_local_only(machine: str) -> None:
    program, audit, socket = seccomp_filter(machine), AUDIT[machine], SOCKET[machine]
    assert program is not None
    assert run(program, socket, audit, 1, 1) == ALLOWED
    for family in (0, 2, 10, 16, 17, 38, 40, (1 << 32) - 1):
        assert run(program, socket, audit, family, 1) == REFUSED_ACTION


def test_another_architecture_is_killed_and_x32_refused() -> None:
    program = seccomp_filter("x86_64")
    assert program is not None
    assert run(program, 0, AUDIT["aarch64"]) == KILLED
    assert run(program, 0, 0x40000003) == KILLED  # i386, by int 0x80
    assert run(program, 0x40000000, AUDIT["x86_64"]) == REFUSED_ACTION


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp_filter("riscv64") is None
