"""Load for a coordinator: many nodes with real keys and real signatures in one process."""
