"""The story of tccp so far, on real parts: TPMs (software), daemons, TLS, a database. Run by `make demo`.

``--keep`` leaves everything running and prints what to try next.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tccp.protocol import control as c
from tests.support.perimeter import SCRIPTS, ZERO_PCR, Perimeter
from tests.support.soft_tpm import EkAuthority, SoftTpm

LEASE_S = 6


def say(text: str) -> None:
    """A step of the story."""
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def tccp(perimeter: Perimeter, *words: str) -> None:
    """Run the `tccp` command as an operator would, and show it."""
    shown = " ".join(words)
    print(f"$ tccp {shown}", flush=True)
    environment = {**os.environ, "TCCP_SOCKET": str(perimeter.control), "COLUMNS": "120"}
    subprocess.run([str(SCRIPTS / "tccp"), *words], env=environment, check=True)


def story(perimeter: Perimeter) -> None:
    """Two nodes are admitted; one of them is tampered with and put out."""
    say("The operator of the trusted coordinator names what a TVMM may be: a policy of PCR values")
    policy = perimeter.directory / "tvmm.toml"
    policy.write_text(f'name = "tvmm"\nversion = 1\n\n[pcrs]\n0 = ["{ZERO_PCR}"]\n4 = ["{ZERO_PCR}"]\n')
    tccp(perimeter, "coordinator", "policy", "add", str(policy))

    say("Two hosts are enrolled by the certificates of their TPMs, and their daemons started")
    alpha, beta = perimeter.make_node("alpha"), perimeter.make_node("beta")
    for node in (alpha, beta):
        node.daemon.start()
    for node in (alpha, beta):
        node.wait_for_state("admitted")
    say("Both have proved what they run; each holds a lease, and its daemon renews it with fresh quotes")
    tccp(perimeter, "coordinator", "nodes")
    tccp(perimeter, "node", "status", "--socket", str(alpha.daemon.control))

    say("Somebody changes the kernel of beta: PCR 4 of its TPM is extended, as a boot of something else would do")
    beta.extend_pcr(4)
    perimeter.wait_for("beta", lambda info: info.state != "admitted" and bool(info.last_refusal), "is refused")
    say("At the next renewal its quote shows it: beta is out, alpha stays")
    tccp(perimeter, "coordinator", "nodes")
    tccp(perimeter, "coordinator", "node", "show", "beta")
    beta.wait_for_state("waiting")
    tccp(perimeter, "node", "status", "--socket", str(beta.daemon.control))
    info = perimeter.node_info("alpha")
    assert info.state == "admitted", info
    assert isinstance(info, c.NodeInfo)

    say("What the coordinator's log holds of it")
    tccp(perimeter, "coordinator", "watch", "--no-follow")


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="tccp-") as folder:
        directory = Path(folder)
        say("A coordinator and two hosts get TPMs, made by a TPM maker that only this demo trusts")
        authority = EkAuthority(directory / "ca")
        SoftTpm(authority, directory / "first")  # the authority exists once it has made a TPM
        with Perimeter(directory, lease_s=LEASE_S, authority=authority) as perimeter:
            story(perimeter)
            if keep:
                say("Everything is running; try these, and Ctrl-C to end it")
                print(f"export TCCP_SOCKET={perimeter.control} PATH={SCRIPTS}:$PATH")
                print("tccp coordinator status\ntccp coordinator revoke alpha --reason 'sold'\ntccp coordinator watch")
                try:
                    perimeter.coordinator.wait()
                except KeyboardInterrupt:
                    print()
            say("Stopping: daemons, TPMs and their files")
            codes = [node.daemon.stop() for node in perimeter.nodes.values()] + [perimeter.coordinator.stop()]
            assert codes == [0, 0, 0], codes
    print("done: two hosts admitted, the tampered one refused, nothing left behind")
    return 0


if __name__ == "__main__":
    sys.exit(main())
