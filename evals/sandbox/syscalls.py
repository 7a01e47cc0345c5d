"""System calls that a check has no use for and that a way out could lead through, refused by a seccomp filter.

Namespaces leave some doors open that this closes: AF_VSOCK sockets reach a virtual machine's host past any network
namespace; System V shared memory and `memfd` take memory that no limit of a process counts; tracing and reading another
process's memory are what the checker must be safe from; and the rest are calls with a history of holes in the kernel.
A refused call fails with EPERM. The filter is classic BPF, 8 bytes an instruction, as bubblewrap takes it.
"""

import platform
import struct

AF_UNIX = 1
EPERM = 1
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
KILL, ALLOW, REFUSE = 0x80000000, 0x7FFF0000, 0x00050000 | EPERM
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in the kernel's `struct seccomp_data`; the argument's low half, as both machines are little-endian."""
X32 = 0x40000000

Step = tuple[int, int, str | None, str | None]
"""Operation, operand, where to jump if it holds and if not."""

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
SOCKET = {"x86_64": 41, "aarch64": 198}
# name: number on x86_64, on aarch64
REFUSED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186),
    "mq_open": (240, 180), "memfd_create": (319, 279), "memfd_secret": (447, 447), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "quotactl": (179, 60), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89),
}  # fmt: skip


def seccomp_filter(machine: str | None = None) -> bytes | None:
    """The filter for this machine, or None for one whose call numbers are not listed here."""
    machine = machine or platform.machine()
    if machine not in AUDIT:
        return None
    column = list(AUDIT).index(machine)
    numbers = [pair[column] for pair in REFUSED.values()]
    # The program's end: [allow] [check a socket's family: allow AF_UNIX, else refuse]; every jump leads forward to it.
    body: list[Step] = [(JUMP_EQUAL, number, "refuse", None) for number in numbers]
    if machine == "x86_64":
        body.insert(0, (JUMP_AT_LEAST, X32, "refuse", None))
    body.append((JUMP_EQUAL, SOCKET[machine], None, "allow"))
    body += [(LOAD, FIRST_ARGUMENT, None, None), (JUMP_EQUAL, AF_UNIX, "allow", "refuse")]
    start: list[Step] = [
        (LOAD, ARCHITECTURE, None, None),
        (JUMP_EQUAL, AUDIT[machine], None, "kill"),
        (LOAD, NUMBER, None, None),
    ]
    return assemble([*start, *body])


def assemble(steps: list[Step]) -> bytes:
    """Instructions with named jumps (None: the next one), followed by what the names stand for."""
    ends = {"allow": len(steps), "refuse": len(steps) + 1, "kill": len(steps) + 2}
    code: list[bytes] = []
    for place, (operation, operand, if_true, if_false) in enumerate(steps):
        jumps = [ends[name] - place - 1 if name else 0 for name in (if_true, if_false)]
        code.append(struct.pack("<HBBI", operation, *jumps, operand))
    return b"".join([*code, *(struct.pack("<HBBI", RETURN, 0, 0, value) for value in (ALLOW, REFUSE, KILL))])
