"""What evidence proves: enrolment, quotes, event logs, policies. Verifies or raises; no I/O."""
