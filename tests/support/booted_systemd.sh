#!/bin/bash
# booted_systemd.sh REPOSITORY PYTHON NOTIFY: run the real systemd as process 1 of its own namespaces until stdin ends.
#
#   root folder   an overlay of / whose changes live in memory; the repository is at /opt/tccp, and the folder with
#                 Python's bin/ and lib/ at /opt/python, because a sandboxed service does not see /root or /home
#   network       a loopback interface, nothing else
#   systemd       basic.target, without what needs hardware; says READY=1 to the datagram socket NOTIFY
#
# Needs root and the right to make mount, process and cgroup namespaces. Nothing outside is changed, and everything
# inside dies with this script, also when the test that started it was killed.
set -euo pipefail
REPOSITORY=$1 PYTHON=$2 NOTIFY=$3

if [ "${INSIDE:-}" = mounts ]; then # ---- a private mount namespace: build the root folder, then enter the others
    mount --make-rprivate /
    W=$(mktemp -d)
    mount -t tmpfs -o size=1g,mode=755 tccp-test "$W"
    mkdir "$W"/{upper,work,root,upper-repository,work-repository,cgroup}
    mount -t overlay -o "lowerdir=/,upperdir=$W/upper,workdir=$W/work" overlay "$W/root"
    mkdir -p "$W/root/opt/tccp" "$W/root/opt/python"
    mount --bind "$PYTHON" "$W/root/opt/python"
    mount -t overlay -o "lowerdir=$REPOSITORY,upperdir=$W/upper-repository,workdir=$W/work-repository" overlay \
        "$W/root/opt/tccp"
    chmod 755 "$W/root" "$W/root/opt/tccp"

    # A cgroup of its own, wherever (and whether) this machine has mounted the hierarchy.
    mount -t cgroup2 cgroup2 "$W/cgroup"
    own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    cgroup=$W/cgroup$own/tccp-test.$$
    mkdir "$cgroup"
    exec 9<&0
    (
        echo $BASHPID >"$cgroup/cgroup.procs"
        export INSIDE=namespaces ROOT=$W/root
        exec unshare --cgroup --pid --net --ipc --uts --mount --fork --kill-child bash "$0" "$@" </dev/null
    ) 2>&1 &
    machine=$!
    cat <&9 >/dev/null &
    reader=$!
    wait -n || true
    kill -9 "$machine" "$reader" 2>/dev/null || true
    wait 2>/dev/null || true
    # The kernel ends the processes inside a moment after their first one.
    for _ in $(seq 100); do
        find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
        [ -d "$cgroup" ] || break
        sleep 0.05
    done
    exit 0
fi

if [ "${INSIDE:-}" = namespaces ]; then # ---- process 1: mount what a kernel's boot would have mounted
    cd "$ROOT"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mkdir -p sys/fs/cgroup
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 dev dev
    for device in null zero full random urandom tty; do
        touch dev/$device
        mount --bind /dev/$device dev/$device
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    mount -t tmpfs -o mode=1777 shm dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    for fd in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${fd%%:*}" "dev/${fd##*:}"; done
    touch dev/console dev/kmsg
    mount -t tmpfs -o mode=755 run run
    mount -t tmpfs -o mode=1777 tmp tmp
    mkdir -p run/systemd/system mnt
    touch run/host-notify
    mount --bind "$NOTIFY" run/host-notify

    # No unit of the host's runs but systemd's own basic ones, and of those none that needs hardware.
    rm -rf etc/systemd/system/* etc/systemd/network/*
    for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udev-settle.service \
        systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-modules-load.service \
        systemd-remount-fs.service systemd-firstboot.service systemd-hwdb-update.service systemd-random-seed.service \
        systemd-timesyncd.service systemd-binfmt.service systemd-sysctl.service systemd-pstore.service \
        systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-journal-flush.service \
        dbus.service dbus.socket dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
        sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount ldconfig.service; do
        ln -sf /dev/null "run/systemd/system/$unit"
    done
    : >etc/fstab
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    pivot_root . mnt
    cd /
    umount --lazy /mnt
    mount --make-rshared / # credentials are mounted into units
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=tccp-test NOTIFY_SOCKET=/run/host-notify \
        SYSTEMD_PROC_CMDLINE="systemd.unit=basic.target systemd.log_target=console systemd.show_status=0" \
        /lib/systemd/systemd --system
fi

INSIDE=mounts exec unshare --mount bash "$0" "$@"
