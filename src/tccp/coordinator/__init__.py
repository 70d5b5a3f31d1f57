"""The trusted coordinator: keeps the perimeter record, attests nodes, leases them their place in it."""
