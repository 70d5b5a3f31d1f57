-- Leases that have ended are forgotten after a while: which VMs name a lease is asked for each of them.

CREATE INDEX vm_by_lease ON vm (lease_id);
