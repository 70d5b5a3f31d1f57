"""The story of tccp so far, on real parts: TPMs (software), daemons, TLS, a database. Run by `make demo`.

``--keep`` leaves everything running and prints what to try next.
"""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tccp.protocol import control as c
from tests.support.guest import guest_kernel, make_initramfs
from tests.support.perimeter import SCRIPTS, ZERO_PCR, Node, Perimeter
from tests.support.soft_tpm import EkAuthority, SoftTpm

LEASE_S = 300  # as it is by default: what is asked for in between is asked for because somebody wants keys
ROLES = ("kernel", "initrd", "data")
INTERRUPTED = 130
GUEST = """\
echo "the guest is up; it was given: $(cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.tccp/data/raw)"
number=0
while true; do number=$((number + 1)); echo "counter $number"; sleep 1; done
"""


def say(text: str) -> None:
    """A step of the story."""
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def tccp(socket: Path, *words: object, ends_with: int = 0) -> None:
    """Run the `tccp` command as an operator or a tenant would, and show it; *socket* is that of a daemon."""
    shown = " ".join(shlex.quote(Path(word).name if isinstance(word, Path) else str(word)) for word in words)
    print(f"$ tccp {shown}", flush=True)
    done = subprocess.run([SCRIPTS / "tccp", *map(str, words)], env=environment(socket), check=False)
    assert done.returncode == ends_with, done


def environment(socket: Path) -> dict[str, str]:
    """What the command sees."""
    return {**os.environ, "TCCP_SOCKET": str(socket), "COLUMNS": "120"}


def story(perimeter: Perimeter) -> "Tenant":
    """Two nodes are admitted; a tenant launches a VM on one of them; the other is tampered with and gets no key."""
    say("The operator of the trusted coordinator names what a TVMM may be: a policy of PCR values")
    policy = perimeter.directory / "tvmm.toml"
    policy.write_text(f'name = "tvmm"\nversion = 1\n\n[pcrs]\n0 = ["{ZERO_PCR}"]\n4 = ["{ZERO_PCR}"]\n')
    tccp(perimeter.control, "coordinator", "policy", "add", policy)

    say("Two hosts are enrolled by the certificates of their TPMs, and their daemons started")
    alpha, beta = perimeter.make_node("alpha", vms=True), perimeter.make_node("beta", vms=True)
    for node in (alpha, beta):
        node.daemon.start()
    for node in (alpha, beta):
        node.wait_for_state("admitted")
    say("Both have proved what they run; each holds a lease, which only fresh quotes renew")
    tccp(perimeter.control, "coordinator", "nodes")

    tenant = Tenant(perimeter)
    tenant.trust()
    tenant.seal()
    launch(perimeter, tenant, alpha)
    move(perimeter, tenant, beta)
    suspend(tenant, beta, alpha)
    tamper(perimeter, tenant, beta)
    destroy(perimeter, tenant, alpha)
    say("The ticket is used up: the provider cannot start the VM another time without the tenant")
    tccp(alpha.daemon.control, "vm", "launch", tenant / "web.ticket", *tenant.images, ends_with=1)
    info = perimeter.node_info("alpha")
    assert info.state == "admitted", info
    assert isinstance(info, c.NodeInfo)

    say("What the coordinator's log holds of it")
    tccp(perimeter.control, "coordinator", "watch", "--no-follow")
    return tenant


class Tenant:
    """Somebody with images, who trusts nobody here yet."""

    def __init__(self, perimeter: Perimeter) -> None:
        self.perimeter = perimeter
        self.folder = perimeter.directory / "tenant"
        self.folder.mkdir(mode=0o711)
        self.store = ("--store", self / "trust")
        self.vm_id = ""

    def __truediv__(self, name: str) -> Path:
        """A file of hers."""
        return self.folder / name

    def trust(self) -> None:
        """She verifies the coordinator before anything else."""
        say(
            "A tenant has got the coordinator's policy from its operator. She has the coordinator prove it, and pins it"
        )
        command = [SCRIPTS / "tccp", "coordinator", "trust", "--tenant"]
        shown = subprocess.run(command, env=environment(self.perimeter.control), check=True, capture_output=True)
        (self / "tc-policy.toml").write_bytes(shown.stdout)
        address = f"127.0.0.1:{self.perimeter.tenants_port}"
        tccp(self.perimeter.control, "trust", "add", address, "--policy", self / "tc-policy.toml", *self.store)

        say("She makes keys; the operator of the coordinator takes her in")
        tccp(self.perimeter.control, "key", "generate", "--type", "tenant", self / "acme.key")
        tccp(self.perimeter.control, "key", "generate", self / "me.key")
        tccp(self.perimeter.control, "coordinator", "tenant", "add", "acme", self / "acme.pub")

    def seal(self) -> None:
        """A bootable system of hers, sealed to herself alone."""
        say("She seals what is to boot: Debian's kernel, a small system, and a secret for it")
        files = {
            "kernel": guest_kernel(),
            "initrd": make_initramfs(self / "initrd", GUEST, modules=["qemu_fw_cfg"]),
            "data": self / "secret",
        }
        files["data"].write_text("the secret of acme")
        for name, source in files.items():
            target = self / f"{name}.sealed"
            tccp(
                self.perimeter.control,
                "image",
                "seal",
                source,
                target,
                "--to",
                self / "me.pub",
                "--sign",
                self / "acme.key",
            )

    def ticket(self, name: str, vm: str) -> Path:
        """A ticket for one start of one VM."""
        tccp(self.perimeter.control, "ticket", "create", *self.ticket_words(name, vm))
        return self / name

    def ticket_words(self, name: str, vm: str) -> list[object]:
        """What makes one."""
        images = [word for role in ROLES for word in (f"--{role}", self / f"{role}.sealed")]
        keys = ("--sign", self / "acme.key", "--key", self / "me.key")
        shape = ("--cmdline", "console=ttyS0 quiet panic=-1 no_timer_check", "--memory", "192", "--policy", "tvmm")
        return [self / name, "--vm", self / vm, *keys, *images, *shape, *self.store]

    @property
    def images(self) -> list[Path]:
        """What she gives to the provider."""
        return [self / f"{role}.sealed" for role in ROLES]


def launch(perimeter: Perimeter, tenant: Tenant, node: Node) -> None:
    """The provider starts her VM; she verifies that."""
    say("She signs a ticket for one start of one VM, on a node that the policy tvmm has admitted")
    ticket = tenant.ticket("web.ticket", "web.vm")

    say("The provider launches it on alpha. Nothing that she gave away is secret; the node gets the keys")
    receipt = tenant / "web.receipt"
    tccp(node.daemon.control, "vm", "launch", ticket, *tenant.images, "--receipt", receipt)
    listed = subprocess.run(
        [SCRIPTS / "tccp", "vm", "list", "--json"],
        env=environment(node.daemon.control),
        check=True,
        capture_output=True,
    )
    tenant.vm_id = json.loads(listed.stdout)["vms"][0]["vm_id"]

    say("Its console")
    tail_console(node, tenant.vm_id, until=2)

    say("She verifies the launch, offline: which node, which boot, judged by which policy, released once, and logged")
    tccp(perimeter.control, "vm", "verify", receipt, "--vm", tenant / "web.vm", *tenant.store)


def move(perimeter: Perimeter, tenant: Tenant, node: Node) -> None:
    """It goes to another node while it runs."""
    say(f"It moves to {node.name} while it runs, and goes on there once alpha has signed that it wiped it")
    receipt = tenant / "moved.receipt"
    tccp(node.daemon.control, "vm", "receive", tenant / "web.ticket", *tenant.images, "--receipt", receipt)
    say("The guest goes on counting")
    tail_console(node, tenant.vm_id, until=5)
    tccp(perimeter.control, "vm", "verify", receipt, "--vm", tenant / "web.vm", *tenant.store)


def suspend(tenant: Tenant, here: Node, there: Node) -> None:
    """It stands still in a file, and goes on from the newest one, once."""
    say(f"It is suspended to an encrypted file, and goes on from that on {there.name}")
    first = suspended(tenant, here)
    older = tenant / "older.state"
    older.write_bytes(first.read_bytes())
    resume = ("vm", "resume", tenant / "web.ticket")
    tccp(there.daemon.control, *resume, first, *tenant.images)
    tail_console(there, tenant.vm_id, until=7)
    say("Suspended again; somebody puts the older state back, and is refused")
    newest = suspended(tenant, there)
    tccp(there.daemon.control, *resume, older, *tenant.images, ends_with=1)
    tccp(there.daemon.control, *resume, newest, *tenant.images)


def suspended(tenant: Tenant, node: Node) -> Path:
    """Suspend it; the file."""
    tccp(node.daemon.control, "vm", "suspend", tenant.vm_id[:8])
    command = [SCRIPTS / "tccp", "vm", "show", tenant.vm_id, "--json"]
    shown = subprocess.run(command, env=environment(node.daemon.control), check=True, capture_output=True)
    return Path(json.loads(shown.stdout)["saved"])


def destroy(perimeter: Perimeter, tenant: Tenant, node: Node) -> None:
    """Nothing is left of it."""
    say(f"The VM on {node.name} has run all the while. It is destroyed: keys, memory, disks, states")
    receipt = tenant / "web.destroyed"
    tccp(node.daemon.control, "vm", "destroy", tenant.vm_id[:8], "--receipt", receipt)
    tccp(perimeter.control, "coordinator", "vms")
    say("The tenant verifies that, offline")
    tccp(perimeter.control, "vm", "verify-destruction", receipt, "--vm", tenant / "web.vm", *tenant.store)


def tamper(perimeter: Perimeter, tenant: Tenant, node: Node) -> None:
    """The other node is not what it was; it has a lease still, and gets no key."""
    ticket = tenant.ticket("other.ticket", "other.vm")
    say(f"Somebody changes the kernel of {node.name}: its PCR 4 is extended. It has a lease still, and asks for keys")
    node.extend_pcr(4)
    tccp(node.daemon.control, "vm", "launch", ticket, *tenant.images, ends_with=1)
    say("The coordinator wanted fresh evidence first, and that showed it: no key, and the node is out")
    perimeter.wait_for(node.name, lambda info: info.state != "admitted" and bool(info.last_refusal), "is refused")
    tccp(perimeter.control, "coordinator", "nodes")
    tccp(perimeter.control, "coordinator", "node", "show", node.name)


def keep_running(perimeter: Perimeter, tenant: Tenant) -> None:
    """Until Ctrl-C."""
    say("Everything is running. Try these in another terminal; Ctrl-C here ends it")
    print(*to_try(perimeter, tenant), "", sep="\n", flush=True)
    try:
        perimeter.coordinator.wait(None)
    except KeyboardInterrupt:
        print()


def to_try(perimeter: Perimeter, tenant: Tenant) -> list[str]:
    """What an operator, the tenant and the provider may type next, in this order: alpha is in, beta is out."""
    images = " ".join(image.name for image in tenant.images)
    alpha = f"--socket {perimeter.nodes['alpha'].daemon.control}"
    return [
        f"export TCCP_SOCKET={perimeter.control} PATH={SCRIPTS}:$PATH; cd {tenant.folder}",
        "tccp top --once",
        "tccp coordinator node show beta",
        "tccp trust check --store trust",
        f"tccp log audit --store trust --log https://127.0.0.1:{perimeter.log_port}/",
        "tccp probe alpha --sign acme.key --store trust --receipt alpha.receipt",
        "tccp receipt verify alpha.receipt --store trust",
        shlex.join(["tccp", "ticket", "create", *map(str, tenant.ticket_words("next.ticket", "next.vm"))]),
        f"tccp vm launch next.ticket {images} --receipt next.receipt {alpha}",
        "tccp vm verify next.receipt --vm next.vm --store trust",
        f"tccp vm list {alpha}",
        "tccp coordinator revoke alpha --reason sold --severity routine",
        "tccp watch --kind revoke --kind told --no-follow",
    ]


def tail_console(node: Node, vm_id: str, *, until: int) -> None:
    """Show what the guest says, up to some number that it has counted to."""
    print(f"$ tccp vm console {vm_id[:8]}", flush=True)
    command = [SCRIPTS / "tccp", "vm", "console", vm_id[:8]]
    with subprocess.Popen(
        command, env=environment(node.daemon.control), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as console:
        assert console.stdout is not None
        for line in console.stdout:
            print(f"| {line.decode(errors='replace').rpartition('c' + chr(27))[2].strip()}", flush=True)
            counted = re.search(rb"counter (\d+)", line)
            if counted and int(counted[1]) >= until:
                break
        console.kill()


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it otherwise
    try:
        with tempfile.TemporaryDirectory(prefix="tccp-") as folder:
            run(Path(folder), keep=keep)
    except KeyboardInterrupt:
        print("interrupted: everything was stopped, nothing left behind")
        return INTERRUPTED
    print("done: a VM launched on an attested host and verified; the tampered host got no key; nothing left behind")
    return 0


def run(directory: Path, *, keep: bool) -> None:
    """Everything, in a folder that is removed afterwards."""
    say("A coordinator and two hosts get TPMs, made by a TPM maker that only this demo trusts")
    authority = EkAuthority(directory / "ca")
    SoftTpm(authority, directory / "first")  # the authority exists once it has made a TPM
    with Perimeter(directory, lease_s=LEASE_S, authority=authority) as perimeter:
        try:
            tenant = story(perimeter)
            if keep:
                keep_running(perimeter, tenant)
        finally:
            say("Stopping: daemons, TPMs and their files")
            codes = [node.daemon.stop() for node in perimeter.nodes.values()] + [perimeter.coordinator.stop()]
        assert codes == [0, 0, 0], codes


if __name__ == "__main__":
    sys.exit(main())
