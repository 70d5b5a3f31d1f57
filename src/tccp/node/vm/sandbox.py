"""What each of a VM's processes may touch of the host's files: next to nothing, whoever it runs as."""

# Where Debian keeps the firmware of QEMU and its option ROMs.
QEMU_DATA = ("/usr/share/qemu", "/usr/share/seabios")
_LIBRARIES = ["/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache"]
# Modules of QEMU lie beside the libraries; the variable is needed because its program is a copy in memory.
QEMU_ENVIRONMENT = {"QEMU_MODULE_DIR": "/usr/lib/x86_64-linux-gnu/qemu"}
QEMU_FILES = [
    *(*_LIBRARIES, *QEMU_DATA, "/usr/share/OVMF"),
    *("/proc", "/dev/urandom", "/sys/devices/system/cpu"),
]
QEMU_DEVICES = ["/dev/kvm", "/dev/null"]
SWTPM_FILES = [*_LIBRARIES, "/dev/urandom"]
FILES_MAX = 256
