"""What each of a VM's processes may touch of the host's files: next to nothing, whoever it runs as."""

# Where Debian keeps the firmware of QEMU and its option ROMs.
QEMU_DATA = ("/usr/share/qemu", "/usr/share/seabios")
_LIBRARIES = ["/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache"]
# Modules of QEMU lie beside the libraries; the variable is needed because its program is a copy in memory.
QEMU_ENVIRONMENT = {"QEMU_MODULE_DIR": "/usr/lib/x86_64-linux-gnu/qemu", "MALLOC_ARENA_MAX": "4"}
QEMU_FILES = [
    *(*_LIBRARIES, *QEMU_DATA, "/usr/share/OVMF"),
    *("/dev/urandom", "/sys/devices/system/cpu"),
]
QEMU_DEVICES = ["/dev/kvm", "/dev/null"]
SWTPM_FILES = [*_LIBRARIES, "/dev/urandom"]
FILES_MAX = 256
# All of a VM's processes together; what a processor of the guest adds comes on top.
TASKS_MAX = 256
# Address space, which is more than memory: stacks, mappings of files, room that malloc keeps.
SWTPM_MEMORY_MIB = 512
QEMU_MEMORY_MIB = 4096
QEMU_MEMORY_MIB_A_VCPU = 64


def qemu_memory_mib(memory_mib: int, vcpus: int) -> int:
    """How much QEMU may map for a guest of that size: room enough, and not all of the host."""
    return memory_mib + QEMU_MEMORY_MIB + vcpus * QEMU_MEMORY_MIB_A_VCPU
