"""A process without rights that tells systems elsewhere what happened at the coordinator, which calls nobody."""
