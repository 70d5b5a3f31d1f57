"""Everything around QEMU: one virtual machine in a box that is closed as far as a process can be.

    async with open_vm(description, images, host=host) as vm:    # verified, started, paused
        await vm.run()
        end = await vm.ended()                                   # why, and the disks' roots

It knows nothing of tickets, tenants and the coordinator; whoever calls has been given the keys.
"""
