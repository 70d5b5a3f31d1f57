"""How the coordinator's private keys are kept: sealed to its TPM, and in shares for the officers of who runs it.

key_set.py      what is kept
sealed_file.py  the file that holds it: encrypted under a wrapping key that only the TPM gives back
authority.py    the key that approves states of the coordinator's machine; its secret half is elsewhere
approval.py     what it signs, and the request for it
vault.py        making, opening and moving the keys of one state directory
shamir.py, shares.py    N of M shares, each for one officer's own key
journal.py      what was done to the keys, until the daemon has put it into its log
"""
