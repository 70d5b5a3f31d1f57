"""The example files of policies are legal; those of configurations are made and tested with the schema."""

import re
from pathlib import Path

from tccp.attestation.boot_policy import SECTION_PCRS, parse_boot_policy
from tccp.attestation.policy import parse_policy
from tccp.tenant.policy import KEYS, parse_tenant_policy

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def test_the_example_of_a_policy_is_legal() -> None:
    policy = parse_policy((EXAMPLES / "policy.toml").read_bytes())

    assert policy.selection.indexes == (0, 2, 4, 7)


def test_the_example_of_a_measured_boot_policy_is_legal_and_has_every_section() -> None:
    policy = parse_boot_policy((EXAMPLES / "measured-boot.toml").read_bytes())

    assert set(policy.sections) == set(SECTION_PCRS)
    assert policy.selection.indexes == (0, 2, 4, 5, 7, 8, 9, 10, 12)


def test_the_example_of_a_tenants_policy_is_legal_and_shows_every_key() -> None:
    text = (EXAMPLES / "tenant-policy.toml").read_text()
    policy = parse_tenant_policy(text.encode(), folder=EXAMPLES)

    assert (len(policy.witnesses), policy.witnesses_required) == (2, 1)
    assert policy.ek_authorities == EXAMPLES / "ek-authorities"
    found = re.findall(r"^(?:# )?([a-z_]+) = |^(?:# )?\[+(\w+)", text, re.MULTILINE)
    shown = {word for pair in found for word in pair if word}
    assert shown - {"key", "mode", "digests"} == KEYS
