----------------------------- MODULE Ownership -----------------------------
(* Who may run a VM: keys, leases, live migration, suspend and resume, with crashes, frozen daemons, cut-off and
   rebooted nodes, and revocation. One VM, one coordinator, a few hosts. The coordinator's transactions are atomic and
   durable, so its own crash is the same as being slow; messages may be late for ever, which is the same as lost.

   Each counter-measure has a switch. All of them on, every invariant holds; each of them off, TLC prints the attack
   (tests/formal runs both). Time is a tick that shortens every lease. *)
EXTENDS Naturals, FiniteSets

CONSTANTS Nodes, LeaseTicks, EpochMax, WorkMax,
    BOOT_KEY,       \* keys are wrapped to the key of the boot that was quoted, not to the machine
    RECHECK,        \* lease and revocation are looked at again inside the transaction that releases
    EPOCH,          \* the destination unpauses by the coordinator's word, not when it has the whole state
    WIPE_FIRST,     \* the coordinator gives that word only once the source has signed that it wiped its copy
    SELF_STOP,      \* a node that was not renewed stops its VM by itself
    KEEPER,         \* what stops it then is no part of the daemon, which may hang
    MARGIN,         \* and it has stopped before the coordinator counts the lease as over
    WAIT_FOR_LEASE, \* a VM whose node is silent is given to another only when the node's lease is over
    GENERATION,     \* only the newest suspended state is resumed
    ONCE            \* and only once: resuming takes it out of the record

VARIABLES
    host,       \* node -> "good" | "evil": what it booted
    boot,       \* node -> how often it was rebooted
    quoted,     \* node -> the boot that its lease was given to; LeaseTicks ago at most
    leaseTc,    \* node -> how long its lease holds by the coordinator's clock; 0: none
    leaseNode,  \* node -> the same as the node counts it, from before it quoted: never longer
    frozen,     \* nodes whose daemon hangs
    revoked,    \* nodes put out of the perimeter
    copy,       \* node -> what it has of the VM: "none" | "paused" | "running"
    since,      \* node -> the epoch in which it was told to run its copy; 0: it was not
    work,       \* node -> how far its copy of the VM has come
    key,        \* nodes that hold the VM's key
    owner,      \* whom the coordinator has let run the VM, or Nobody
    epoch,      \* of that
    target,     \* to whom it is moving, or Nobody
    wiped,      \* the source has signed for this move that it wiped
    word,       \* {<<node, epoch>>}: permissions to run that the coordinator has given
    snapshots,  \* {<<generation, work>>}: suspended states, all kept by whoever stores them
    latest,     \* the generation in the record; 0: none is to be resumed
    generation, \* how many there were
    acked       \* how far the VM had come when a suspended state was acknowledged

Nobody == "nobody"
NodeTicks == IF MARGIN THEN LeaseTicks - 1 ELSE LeaseTicks

Init ==
    /\ host = [n \in Nodes |-> "good"] /\ boot = [n \in Nodes |-> 0] /\ quoted = [n \in Nodes |-> 0]
    /\ leaseTc = [n \in Nodes |-> LeaseTicks] /\ leaseNode = [n \in Nodes |-> NodeTicks]
    /\ frozen = {} /\ revoked = {}
    /\ copy = [n \in Nodes |-> "none"] /\ since = [n \in Nodes |-> 0] /\ work = [n \in Nodes |-> 0] /\ key = {}
    /\ owner = Nobody /\ epoch = 0 /\ target = Nobody /\ wiped = FALSE /\ word = {}
    /\ snapshots = {} /\ latest = 0 /\ generation = 0 /\ acked = 0

Record == <<owner, epoch, target, wiped, word, latest, generation, acked>>
Holdings == <<copy, since, work, key, snapshots>>
Platform == <<host, boot, quoted, leaseTc, leaseNode, frozen, revoked>>
vars == <<Platform, Holdings, Record>>

(* -- the machines -- *)

Forget(n) ==
    copy' = [copy EXCEPT ![n] = "none"] /\ since' = [since EXCEPT ![n] = 0] /\ key' = key \ {n}

Works(n) == host[n] = "good" /\ n \notin frozen

Stops(n) == leaseNode[n] = 0 /\ copy[n] # "none" /\ SELF_STOP /\ (KEEPER \/ n \notin frozen) /\ host[n] = "good"

Tick ==  \* a node that has to stop its VM now does it now
    /\ \A n \in Nodes : ~Stops(n)
    /\ \E n \in Nodes : leaseTc[n] > 0
    /\ leaseTc' = [n \in Nodes |-> IF leaseTc[n] > 0 THEN leaseTc[n] - 1 ELSE 0]
    /\ leaseNode' = [n \in Nodes |-> IF leaseNode[n] > 0 THEN leaseNode[n] - 1 ELSE 0]
    /\ UNCHANGED <<host, boot, quoted, frozen, revoked>> /\ UNCHANGED Holdings /\ UNCHANGED Record

Stop(n) ==
    /\ Stops(n)
    /\ Forget(n)
    /\ UNCHANGED <<work, snapshots>> /\ UNCHANGED Platform /\ UNCHANGED Record

Renew(n) ==
    /\ Works(n) /\ n \notin revoked /\ leaseNode[n] < NodeTicks
    /\ leaseTc' = [leaseTc EXCEPT ![n] = LeaseTicks] /\ leaseNode' = [leaseNode EXCEPT ![n] = NodeTicks]
    /\ quoted' = [quoted EXCEPT ![n] = boot[n]]
    /\ UNCHANGED <<host, boot, frozen, revoked>> /\ UNCHANGED Holdings /\ UNCHANGED Record

Freeze(n) ==
    /\ Works(n) /\ frozen' = frozen \cup {n}
    /\ UNCHANGED <<host, boot, quoted, leaseTc, leaseNode, revoked>> /\ UNCHANGED Holdings /\ UNCHANGED Record

Thaw(n) ==
    /\ n \in frozen /\ frozen' = frozen \ {n}
    /\ UNCHANGED <<host, boot, quoted, leaseTc, leaseNode, revoked>> /\ UNCHANGED Holdings /\ UNCHANGED Record

Crash(n) ==  \* the daemon, and with it QEMU and all that it held; memory is gone
    /\ host[n] = "good" /\ copy[n] # "none"
    /\ Forget(n) /\ frozen' = frozen \ {n}
    /\ UNCHANGED <<host, boot, quoted, leaseTc, leaseNode, revoked, work, snapshots>> /\ UNCHANGED Record

RebootIntoEvil(n) ==
    /\ boot[n] = 0
    /\ host' = [host EXCEPT ![n] = "evil"] /\ boot' = [boot EXCEPT ![n] = 1]
    /\ Forget(n) /\ frozen' = frozen \ {n}
    /\ UNCHANGED <<quoted, leaseTc, leaseNode, revoked, work, snapshots>> /\ UNCHANGED Record

Revoke(n) ==
    /\ n \notin revoked /\ revoked' = revoked \cup {n} 
    /\ UNCHANGED <<host, boot, quoted, leaseTc, leaseNode, frozen>> /\ UNCHANGED Holdings /\ UNCHANGED Record

Compute(n) ==
    /\ copy[n] = "running" /\ work[n] < WorkMax /\ work' = [work EXCEPT ![n] = @ + 1]
    /\ UNCHANGED <<copy, since, key, snapshots>> /\ UNCHANGED Platform /\ UNCHANGED Record

(* -- the coordinator -- *)

Holds(n) == leaseTc[n] > 0
Admissible(n) == Holds(n) /\ n \notin revoked
\* Was good when it registered: what a coordinator believes that does not look again when it releases.
Chosen(n) == IF RECHECK THEN Admissible(n) ELSE TRUE
\* Who can open what is wrapped to n: the boot that was quoted, or whatever runs there now.
Opens(n) == IF BOOT_KEY THEN boot[n] = quoted[n] ELSE TRUE

Silent == owner # Nobody /\ (IF WAIT_FOR_LEASE THEN ~Holds(owner) ELSE TRUE)

Launch(n) ==  \* the first start, or a start anew from the disk after the owner was lost
    /\ epoch < EpochMax /\ Chosen(n) /\ latest = 0
    /\ owner = Nobody \/ (Silent /\ n # owner)
    /\ owner' = n /\ epoch' = epoch + 1 /\ target' = Nobody /\ wiped' = FALSE
    /\ word' = word \cup {<<n, epoch + 1>>}
    /\ IF Opens(n)
         THEN /\ key' = key \cup {n} /\ work' = [work EXCEPT ![n] = acked]
              /\ copy' = [copy EXCEPT ![n] = IF host[n] = "good" THEN "paused" ELSE "running"]
              /\ since' = [since EXCEPT ![n] = 0]
         ELSE UNCHANGED <<key, copy, since, work>>
    /\ UNCHANGED <<snapshots, latest, generation, acked>> /\ UNCHANGED Platform

Unpause(n) ==  \* by the coordinator's word
    /\ Works(n) /\ copy[n] = "paused" /\ leaseNode[n] > 0
    /\ owner = n /\ target = Nobody /\ <<n, epoch>> \in word
    /\ copy' = [copy EXCEPT ![n] = "running"] /\ since' = [since EXCEPT ![n] = epoch]
    /\ UNCHANGED <<work, key, snapshots>> /\ UNCHANGED Platform /\ UNCHANGED Record

Prepare(n) ==  \* both ends have asked about each other; the destination's evidence is fresh
    /\ owner # Nobody /\ n # owner /\ target = Nobody /\ epoch < EpochMax
    /\ Chosen(n) /\ Chosen(owner) /\ copy[n] = "none"
    /\ target' = n /\ wiped' = FALSE
    /\ key' = IF Opens(n) THEN key \cup {n} ELSE key
    /\ UNCHANGED <<copy, since, work, snapshots, owner, epoch, word, latest, generation, acked>> /\ UNCHANGED Platform

Transfer ==  \* the source stands still, and the destination has all of it
    /\ owner # Nobody /\ target # Nobody /\ Works(owner) /\ copy[owner] = "running"
    /\ target \in key /\ Works(target) /\ copy[target] = "none" /\ ~wiped
    /\ copy' = [copy EXCEPT ![owner] = "paused", ![target] = "paused"]
    /\ work' = [work EXCEPT ![target] = work[owner]]
    /\ UNCHANGED <<since, key, snapshots>> /\ UNCHANGED Platform /\ UNCHANGED Record

GoOnAtSource(n) ==  \* the stream broke, as far as the source can see, and it has wiped nothing: it asks nobody
    /\ Works(n) /\ copy[n] = "paused" /\ since[n] # 0 /\ leaseNode[n] > 0
    /\ copy' = [copy EXCEPT ![n] = "running"]
    /\ UNCHANGED <<since, work, key, snapshots>> /\ UNCHANGED Platform /\ UNCHANGED Record

GoOnAtDestination(n) ==  \* the destination has everything
    /\ ~EPOCH
    /\ Works(n) /\ copy[n] = "paused" /\ leaseNode[n] > 0
    /\ copy' = [copy EXCEPT ![n] = "running"]
    /\ UNCHANGED <<since, work, key, snapshots>> /\ UNCHANGED Platform /\ UNCHANGED Record

Wipe ==  \* and sign that; the source cannot go on from here
    /\ owner # Nobody /\ target # Nobody /\ ~wiped
    /\ Works(owner) /\ copy[owner] = "paused" /\ copy[target] = "paused"
    /\ Forget(owner) /\ wiped' = TRUE
    /\ UNCHANGED <<work, snapshots, owner, epoch, target, word, latest, generation, acked>> /\ UNCHANGED Platform

Commit ==
    /\ target # Nobody /\ Chosen(target) /\ copy[target] = "paused"
    /\ WIPE_FIRST => wiped
    /\ owner' = target /\ epoch' = epoch + 1 /\ word' = word \cup {<<target, epoch + 1>>}
    /\ target' = Nobody /\ wiped' = FALSE
    /\ UNCHANGED Holdings /\ UNCHANGED <<latest, generation, acked>> /\ UNCHANGED Platform

Abort ==  \* only the source asks for that, which therefore wipes nothing afterwards; the destination hears of it late
    /\ target # Nobody /\ ~wiped /\ Works(owner) /\ copy[owner] # "none" /\ target' = Nobody
    /\ UNCHANGED Holdings /\ UNCHANGED <<owner, epoch, wiped, word, latest, generation, acked>> /\ UNCHANGED Platform

GiveUp ==  \* the source can give its word no more: nobody waits for it any longer, and it comes too late
    /\ owner # Nobody /\ target # Nobody /\ ~Holds(owner) /\ target' = Nobody /\ wiped' = FALSE
    /\ UNCHANGED Holdings /\ UNCHANGED <<owner, epoch, word, latest, generation, acked>> /\ UNCHANGED Platform

Discard(n) ==
    /\ Works(n) /\ n # owner /\ n # target /\ n \in key /\ copy[n] # "running" /\ Forget(n)
    /\ UNCHANGED <<work, snapshots>> /\ UNCHANGED Platform /\ UNCHANGED Record

Suspend ==  \* acknowledged when the record has it
    /\ owner # Nobody /\ target = Nobody /\ Works(owner) /\ copy[owner] = "running" /\ Holds(owner)
    /\ generation < EpochMax
    /\ generation' = generation + 1 /\ latest' = generation + 1 /\ acked' = work[owner]
    /\ snapshots' = snapshots \cup {<<generation + 1, work[owner]>>}
    /\ Forget(owner) /\ owner' = Nobody
    /\ UNCHANGED <<work, epoch, target, wiped, word>> /\ UNCHANGED Platform

Resume(n, s) ==
    /\ latest # 0 /\ s \in snapshots /\ epoch < EpochMax /\ Chosen(n) /\ copy[n] = "none" /\ Opens(n)
    /\ IF ONCE THEN owner = Nobody ELSE TRUE
    /\ GENERATION => s[1] = latest
    /\ latest' = IF ONCE THEN 0 ELSE latest
    /\ owner' = n /\ epoch' = epoch + 1 /\ word' = word \cup {<<n, epoch + 1>>}
    /\ key' = key \cup {n} /\ work' = [work EXCEPT ![n] = s[2]]
    /\ copy' = [copy EXCEPT ![n] = "running"] /\ since' = [since EXCEPT ![n] = epoch + 1]
    /\ UNCHANGED <<snapshots, target, wiped, generation, acked>> /\ UNCHANGED Platform

Next ==
    \/ Tick \/ Transfer \/ Wipe \/ Commit \/ Abort \/ GiveUp \/ Suspend
    \/ \E n \in Nodes :
        \/ Stop(n) \/ Renew(n) \/ Freeze(n) \/ Thaw(n) \/ Crash(n) \/ RebootIntoEvil(n) \/ Revoke(n) \/ Compute(n)
        \/ Launch(n) \/ Unpause(n) \/ Prepare(n) \/ GoOnAtSource(n) \/ GoOnAtDestination(n) \/ Discard(n)
        \/ \E s \in snapshots : Resume(n, s)

Spec == Init /\ [][Next]_vars

(* -- what must hold -- *)

NeverTwoRunning == Cardinality({n \in Nodes : copy[n] = "running"}) <= 1
NoKeyOutside == \A n \in key : host[n] = "good"
NothingAcknowledgedIsLost == \A n \in Nodes : copy[n] = "running" => work[n] >= acked
NoneStartedWhenRevoked == [][\A n \in Nodes : (n \in key' \ key) => n \notin revoked]_vars
=============================================================================
