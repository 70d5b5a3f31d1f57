"""Every `tccp` command that a document shows is typed here as it stands there, on a machine where it should work.

One story, in the order in which operators, a tenant and a provider need it; each test goes on where the one before it
ended. Put in for words of a document is only what nobody can know before: the id of a VM, a file that stands for any.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attestation.test_debian_package import deb
from tests.support.guest import guest_kernel
from tests.support.perimeter import ZERO_PCR, wait_until
from tests.support.private_machine import PrivateMachine
from tests.support.reserved import free_users
from tests.support.soft_tpm import SoftTpm, SoftTpmPool
from tests.support.tpm_relay import TpmRelay
from tests.test_documents import commands, is_group

BOOT = Path(__file__).parents[1] / "vectors" / "boot" / "direct"
PACKAGES = Path(__file__).parents[1] / "vectors" / "packages"
POLICY = 'name = "{name}"\nversion = {version}\n\n[pcrs]\n0 = ["{zero}"]\n4 = ["{zero}"]\n'
ENDED_BY_US = 124  # `timeout` ended a command that goes on until it is interrupted
COORDINATOR = "/run/tccp/coordinator/control.sock"
NODE, OTHER_NODE = "/run/tccp/node/control.sock", "/run/tccp/other/control.sock"


class Story:
    """What is typed on the machine, and what came of it."""

    def __init__(self, machine: PrivateMachine, tcti: str, other_tcti: str) -> None:
        self.machine, self.folder = machine, machine.folder
        self.tcti, self.other_tcti = tcti, other_tcti
        self.typed: set[str] = set()

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def type(
        self,
        command: str,
        *,
        then: str = "",
        put: dict[str, str] | None = None,
        ends_with: int = 0,
        home: str = "",
        socket: str = "",
    ) -> str:
        """Type a *command* of the documents; what it printed.

        Args:
            then: What follows the command: a redirection.
            put: What to type for words of the command.
            ends_with: The exit code that it must have.
            home: Somebody else types it: the folder where she keeps what she has pinned.
            socket: The daemon that is meant, where it is not the usual one.
        """
        self.typed.add(command)
        typed = command
        for word, instead in (put or {}).items():
            assert word in typed, word
            typed = typed.replace(word, instead)
        settings = f"export TCCP_TCTI={self.tcti} TCCP_SOCKET={socket} PCR10={self.pcr10}"
        limit = "timeout --signal=INT 2 " if ends_with == ENDED_BY_US else ""
        done = self.machine.run(f"{settings}\n{limit}{typed} {then}", home=home)
        assert done.returncode == ends_with, f"$ {typed} {then}\n{done.stdout}{done.stderr}"
        return done.stdout

    def prepare(self, command: str) -> str:
        """Type something that no document shows."""
        done = self.machine.run(command)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str, config: str, socket: str) -> None:
        """Start a daemon and wait until it answers; a node until it is admitted."""
        kind = "coordinator" if name == "coordinator" else "node"
        self.machine.start(name, f"tccp-{kind} --config {config}")
        good = '"admitted"' if kind == "node" else '"coordinator_id"'
        status = f"tccp {kind} status --json --socket {socket}"
        wait_until(lambda: good in self.machine.run(status).stdout, name, log=self / f"{name}.log")

    def ticket(self) -> None:
        """A ticket for a start of the one VM; the one before is used up."""
        (self / "web.ticket").unlink(missing_ok=True)
        ticket = "tccp ticket create web.ticket --vm web.vm --disk web.sealed --policy tvmm:3"
        self.type(f"{ticket} --sign acme.key --key me.key")

    @property
    def vm(self) -> str:
        """How the id of the VM begins."""
        shown = json.loads(self.prepare("tccp vm list --json"))
        return str(shown["vms"][-1]["vm_id"])[:8]

    @property
    def pcr10(self) -> str:
        """Of the recorded boot."""
        return str(json.loads((BOOT / "pcrs.json").read_bytes())["sha256"]["10"])


@pytest.fixture(scope="module")
def story(soft_tpms: SoftTpmPool) -> Iterator[Story]:
    with (
        tempfile.TemporaryDirectory(prefix="tccp-docs-") as directory,
        soft_tpms.lend() as tpm,
        soft_tpms.lend() as host,
        soft_tpms.lend() as other_host,
        TpmRelay(host) as relay,
        TpmRelay(other_host) as other_relay,
    ):
        folder = Path(directory)
        folder.chmod(0o711)
        with PrivateMachine(folder) as machine:
            story = Story(machine, relay.tcti, other_relay.tcti)
            configure(story, tpm, {"node": relay, "other": other_relay})
            yield story


def configure(story: Story, tpm: SoftTpm, hosts: dict[str, TpmRelay]) -> None:
    """What stands on these machines before anybody types anything: configurations, makers of TPMs, names, users."""
    etc = story / "etc"
    (etc / "ek-authorities").mkdir(parents=True)
    (etc / "ima").mkdir()
    for number, certificate in enumerate(tpm.authority.certificates):
        (etc / "ek-authorities" / f"{number}.der").write_bytes(certificate)
    (etc / "coordinator.toml").write_text(
        f'[tenants]\nlog_url = "https://tc.example.net:7445/"\n[tpm]\ntcti = "{tpm.tcti}"\nevent_log = ""\n'
        f'[enrolment]\nek_authorities = "/etc/tccp/ek-authorities"\n[ima]\npolicies = "/etc/tccp/ima"\n'
    )
    for number, (name, relay) in enumerate(hosts.items()):
        (etc / f"{name}.toml").write_text(
            f'name = "rack1-0{7 + number}"\n[coordinator]\naddress = "tc.example.net:7443"\n'
            f'trust_file = "/etc/tccp/coordinator-trust.toml"\n[control]\nsocket = "/run/tccp/{name}/control.sock"\n'
            f'[tpm]\ntcti = "{relay.tcti}"\nevent_log = ""\n'
            f'[vms]\nrun = "/run/tccp/{name}/vms"\nstate = "/var/lib/tccp/{name}/vms"\nmove_address = "127.0.0.1"\n'
            f"first_user = {free_users()}\nusers = 100\n"
        )
    story.prepare(
        "mkdir -m 711 /{run,var/lib}/tccp /{run,var/lib}/tccp/{node,other}\n"
        "cp -r etc /etc/tccp\n"
        "echo 127.0.0.1 tc.example.net >> /etc/hosts\n"
        "echo qemu:x:71000:71000::/:/bin/false >> /etc/passwd"
    )


def test_the_first_coordinator_is_made_and_started(story: Story) -> None:
    assert "coordinator" in story.type("tccp --help")
    story.type("tccp coordinator init")
    # That one is given up: its authority shall be elsewhere.
    story.prepare("rm -r /var/lib/tccp/coordinator /etc/tccp/update-authority.*")
    story.type("tccp coordinator keys authority update-authority.key")
    story.type("tccp coordinator init --authority update-authority.pub")
    story.prepare("cp /etc/tccp/request.toml .")
    story.type("tccp coordinator keys approve request.toml --authority update-authority.key --out approval.toml")
    story.type("tccp coordinator keys install-approval approval.toml")

    story.start("coordinator", "/etc/tccp/coordinator.toml", COORDINATOR)
    story.type("tccp coordinator status")
    story.type("tccp coordinator status --json")
    story.type("tccp config example node")
    story.type("tccp config check", ends_with=4)  # of the node no coordinator is known yet
    story.type("tccp coordinator trust", then="> /etc/tccp/coordinator-trust.toml")
    story.type("tccp coordinator trust --tenant", then="> tc-policy.toml")


def test_nodes_are_enrolled_and_admitted(story: Story) -> None:
    (story / "tvmm.toml").write_text(POLICY.format(name="tvmm", version=1, zero=ZERO_PCR))
    story.type("tccp coordinator policy add tvmm.toml")
    story.type("tccp node ek --certificate rack1-07.der")
    story.type("tccp evidence ek rack1-07.der --authorities ek-authorities", put={" ek-": " /etc/tccp/ek-"})
    story.type("tccp coordinator enrol rack1-07 --policy tvmm --ek-certificate rack1-07.der --attribute site=north")
    story.type("tccp coordinator enrol rack1-07 --policy tvmm --ek-certificate rack1-07.der", ends_with=1)  # once
    story.start("node", "/etc/tccp/node.toml", NODE)
    story.type("tccp node status")
    assert "admitted" in story.type("tccp coordinator nodes")
    story.type("tccp coordinator node show rack1-07")
    story.type("tccp coordinator node attribute rack1-07 --set site=south")
    assert story.type("tccp top").count("rack1-07") == 1


def test_a_policy_is_tried_and_changed(story: Story) -> None:
    story.type("tccp coordinator policy show tvmm", then="> tvmm.toml")
    (story / "tvmm.toml").write_text(POLICY.format(name="tvmm", version=2, zero=ZERO_PCR))
    story.type("tccp coordinator policy try tvmm.toml")
    story.type("tccp coordinator policy add tvmm.toml")
    (story / "tvmm.toml").write_text(POLICY.format(name="tvmm", version=3, zero=ZERO_PCR))
    shutil.copy(story / "tvmm.toml", story / "tvmm-2.toml")
    story.type("tccp coordinator policy shadow add tvmm.toml")
    story.type("tccp coordinator policy shadow add tvmm-2.toml")
    story.type("tccp coordinator policy shadow report tvmm")
    story.type("tccp coordinator policy shadow promote tvmm")
    assert "tvmm" in story.type("tccp coordinator policy list")


def test_a_tenant_verifies_the_coordinator_and_reads_its_log(story: Story) -> None:
    story.type("tccp key generate --type tenant acme.key")
    story.type("tccp key generate me.key")
    story.type("tccp coordinator tenant add acme acme.pub")
    assert "acme" in story.type("tccp coordinator tenant list")
    story.type("tccp trust add tc.example.net:7444 --policy tc-policy.toml")
    story.type("tccp trust check")
    story.type("tccp trust show")
    story.type("tccp trust add tc.example.net:7444 --policy tc-policy.toml --name ete", home="another")
    story.type("tccp trust check ete", home="another")
    story.type("tccp log audit --name ete", home="another")
    story.type("tccp log audit")
    story.type("tccp log show")
    story.type("tccp log prove 17", put={"17": "7"})
    story.type("tccp log tail", ends_with=ENDED_BY_US)


def test_a_tenant_has_a_node_proved_before_anything_goes_there(story: Story) -> None:
    story.type("tccp probe rack1-07 --sign acme.key")
    story.type("tccp probe rack1-07 --sign acme.key --receipt rack1-07.receipt")
    story.type("tccp receipt verify rack1-07.receipt")
    story.type("tccp receipt verify FILE", put={"FILE": "rack1-07.receipt"})
    story.type("tccp log prove RECEIPT", put={"RECEIPT": "rack1-07.receipt"})


def test_a_vm_is_launched_suspended_resumed_moved_stopped_and_destroyed(story: Story) -> None:
    story.prepare("qemu-img create -q -f qcow2 disk.qcow2 4M")
    story.type("tccp image seal disk.qcow2 web.sealed --to me.pub --sign acme.key")
    story.ticket()
    story.type("tccp vm launch web.ticket web.sealed --receipt web.receipt")
    story.type("tccp vm verify web.receipt --vm web.vm")
    vm = {"5d4c": story.vm}
    assert story.vm in story.type("tccp vm list")
    assert story.vm in story.type("tccp coordinator vms")
    story.type("tccp vm watch", ends_with=ENDED_BY_US)
    story.type("tccp vm console 5d4c", put=vm, ends_with=ENDED_BY_US)

    story.type("tccp vm snapshot 914e", put={"914e": vm["5d4c"]}, ends_with=1)  # her ticket does not permit it
    story.type("tccp vm suspend 5d4c", put=vm)
    saved = json.loads(story.prepare(f"tccp vm show {story.vm} --json"))["saved"]
    story.type("tccp vm resume web.ticket suspended-1.sealed web.sealed", put={"suspended-1.sealed": saved})

    story.prepare(f"tccp node ek --certificate rack1-08.der --tcti {story.other_tcti}")
    story.prepare("tccp coordinator enrol rack1-08 --policy tvmm --ek-certificate rack1-08.der")
    story.start("other", "/etc/tccp/other.toml", OTHER_NODE)
    story.type("tccp vm receive web.ticket web.sealed", socket=OTHER_NODE)
    # There is no system in it that would hear of it: the plug is pulled.
    story.type("tccp vm stop 5d4c", put=vm, socket=OTHER_NODE, ends_with=ENDED_BY_US)
    story.prepare(f"tccp vm stop {vm['5d4c']} --force --socket {OTHER_NODE}")
    story.type("tccp vm cancel 914e", put={"914e": vm["5d4c"]}, socket=OTHER_NODE, ends_with=1)  # it does not move
    story.ticket()
    (story / "web.receipt").unlink()
    story.type("tccp vm launch web.ticket web.sealed --receipt web.receipt", socket=OTHER_NODE)
    story.type("tccp vm destroy 5d4c --receipt web.destroyed", put=vm, socket=OTHER_NODE)
    story.type("tccp vm verify-destruction web.destroyed --vm web.vm")
    assert "destroyed" in story.type("tccp coordinator vms")


def test_the_record_is_kept_and_people_come_and_go(story: Story) -> None:
    story.type("tccp coordinator export", then="> perimeter.json")
    story.type("tccp coordinator import perimeter.json")
    story.type("tccp coordinator tenant remove acme")
    (story / "another.toml").write_text(POLICY.format(name="another-policy", version=1, zero=ZERO_PCR))
    story.prepare("tccp coordinator policy add another.toml")
    story.type("tccp coordinator node policy rack1-07 another-policy")
    story.type('tccp coordinator revoke rack1-07 --reason "sold, ticket 4711" --severity routine')
    assert "revoke" in story.type("tccp coordinator watch", ends_with=ENDED_BY_US)
    assert "revoke" in story.type("tccp coordinator watch --json", ends_with=ENDED_BY_US)
    story.type("tccp watch --kind revoke --kind told", ends_with=ENDED_BY_US)
    for daemon in ("other", "coordinator"):
        assert story.machine.stop(daemon) == 0, story.machine.log(daemon)


def test_other_states_of_the_coordinators_machine_are_approved(story: Story) -> None:
    approve = "tccp coordinator keys approve request.toml --authority update-authority.key"
    story.type("tccp coordinator keys request --out request.toml")
    story.type(f"{approve} --pcr 4=0b5c3ec25c4ee6c0a0bcfa5bd0a2a3a0d8e1b6c0f5a1c9e3b7d2f4a6c8e0b1d3")
    story.type("tccp coordinator keys request --next-generation --out request.toml")
    story.prepare(f"{approve} --out approval.toml && tccp coordinator keys install-approval approval.toml")
    story.type("tccp coordinator keys end-approvals")
    story.type("tccp coordinator keys show")
    story.prepare("tccp coordinator keys authority new-authority.key")
    story.type("tccp coordinator keys change-authority --authority new-authority.pub")
    new = "--authority new-authority.key --out approval.toml"
    story.prepare(f"tccp coordinator keys approve /etc/tccp/request.toml {new}")
    story.prepare("tccp coordinator keys install-approval approval.toml")


def test_the_coordinators_keys_come_back_from_shares(story: Story) -> None:
    story.type("tccp key generate ann.key")
    story.prepare("tccp key generate bob.key && tccp key generate eve.key")
    three = "--officer ann=ann.pub --officer bob=bob.pub --officer eve=eve.pub"
    story.type(f"tccp coordinator keys backup {three} --threshold 2 --out shares")
    story.type("tccp coordinator keys share shares/ann.share")
    story.prepare("cp shares/*.share . && mv /var/lib/tccp/coordinator/keys lost")
    story.type("tccp key generate restoring.key")
    for officer in ("ann", "eve"):
        handed = f"--to restoring.pub --out {officer}-handed.share"
        story.type(f"tccp coordinator keys hand-over {officer}.share --key {officer}.key {handed}")
    story.type("tccp coordinator keys restore ann-handed.share eve-handed.share --key restoring.key")


def test_a_witness_is_made(story: Story) -> None:
    story.type("tccp witness init --name witness.example.net/w1")
    story.type("tccp witness init", ends_with=4)  # once
    assert story.type("tccp witness key").startswith("witness.example.net/w1+")


def test_a_measured_boot_policy_is_learned_and_tried_offline(story: Story) -> None:
    for ours in ("host", "refused"):
        shutil.copy(BOOT.parent / "grub" / "event_log.bin", story / f"{ours}.log")
        shutil.copy(BOOT.parent / "grub" / "pcrs.json", story / f"{ours}.pcrs")
    log = "tccp evidence eventlog /sys/kernel/security/tpm0/binary_bios_measurements"
    story.type(log, put={"/sys/kernel/security/tpm0/binary_bios_measurements": "host.log"})
    story.type("tccp evidence eventlog FILE", put={"FILE": "host.log"})
    learn = "tccp policy learn host.log --pcrs host.pcrs --name tvmm --require lockdown=integrity"
    story.type(learn, then="> tvmm.toml")
    story.type("tccp policy check tvmm.toml")
    story.type("tccp policy explain tvmm.toml --log refused.log --pcrs refused.pcrs")
    shutil.copy(story / "tvmm.toml", story / "tvmm-1.toml")
    (story / "tvmm-2.toml").write_text((story / "tvmm.toml").read_text().replace("version = 1", "version = 2"))
    story.type("tccp policy diff tvmm-1.toml tvmm-2.toml")
    shutil.copy(guest_kernel(), story / "vmlinuz")
    (story / "initrd.img").write_bytes(b"an initrd")
    kernel = "--kernel vmlinuz --initrd initrd.img"
    story.type(f'tccp policy predict {kernel} --command-line "/vmlinuz ro lockdown=integrity" --boot grub')
    story.type("tccp key generate --type operator operator.key")
    story.type("tccp policy sign tvmm.toml --key operator.key", then="> tvmm.signed")
    story.type("tccp policy check tvmm.signed --key operator.pub")


def test_an_ima_policy_is_compiled_and_judges_a_list(story: Story) -> None:
    (story / "a.deb").write_bytes(deb({"./usr/bin/a": b"a"}))
    shutil.copy(PACKAGES / "x-1-1.noarch.rpm", story / "b.rpm")
    shutil.copy(BOOT / "ima.bin", story / "host.ima")
    shutil.copy(BOOT / "ima.bin", story / "list.bin")
    known = {"/usr/bin/c": [hashlib.sha256(b"c").hexdigest()]}
    (story / "runtime-policy.json").write_text(json.dumps({"meta": {"version": 1}, "digests": known}))
    story.type("tccp policy from-packages a.deb b.rpm", then="> files.sha256")
    story.type(
        "tccp policy from-packages build/dist/tccp_0.1.0_amd64.deb", put={"build/dist/tccp_0.1.0_amd64.deb": "a.deb"}
    )
    lists = "--list files.sha256 --list runtime-policy.json"
    story.type(f"tccp policy compile tvmm.ima {lists} --exclude '/var/log/*'")
    # A system that nobody has listed, with violations.
    story.type('tccp evidence ima list.bin --pcr10 "$PCR10" --policy tvmm.ima', ends_with=1)
    story.type("tccp policy compile /etc/tccp/ima/tvmm.ima --measured host.ima")
    story.type("tccp policy compile tvmm.ima --measured host.ima")
    story.type("tccp evidence ima LIST", put={"LIST": "list.bin"})


def test_a_disk_is_served_and_asked(story: Story) -> None:
    story.prepare("head -c 32 /dev/urandom > vm.key && tccp disk create vm.disk --size 4M --log 64K --key vm.key")
    story.prepare("chown qemu vm.disk")
    serve = "tccp disk serve vm.disk --key-fd 3 --socket /run/vm.sock --user qemu"
    story.typed.add(serve)
    story.machine.start("disk", f"{serve} 3< vm.key")
    wait_until(lambda: story.machine.run("test -S /run/vm.sock").returncode == 0, "served", log=story / "disk.log")
    mark = json.loads(story.prepare("tccp disk ask /run/vm.sock mark --json"))["mark"]
    story.type("tccp disk ask /run/vm.sock mark")
    story.type("tccp disk ask SOCKET kept", put={"SOCKET kept": f"/run/vm.sock kept {mark}"})
    story.type("tccp disk ask /run/vm.sock compact")
    story.type("tccp disk ask SOCKET compact", put={"SOCKET": "/run/vm.sock"})
    assert story.machine.stop("disk") == 0, story.machine.log("disk")


def test_the_doctor_looks_at_the_machine(story: Story) -> None:
    found = json.loads(story.type("tccp doctor", then="--json || test $? = 3"))["findings"]
    assert {finding["area"] for finding in found} >= {"tpm", "libraries", "configuration"}


def test_no_command_of_the_documents_is_left_out(story: Story) -> None:
    shown = {command for command in commands() if not is_group(command)}

    assert shown - story.typed == set(), "type them in one of the tests above"
    assert story.typed - shown == set(), "no document shows these any more"
