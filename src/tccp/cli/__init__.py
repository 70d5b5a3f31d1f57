"""The ``tccp`` command: synchronous, and quick to start because each command imports what it needs when it runs.

A command is a module with ``add_parser(commands)`` and ``run(args) -> int``; ``exit_codes`` says what the numbers
mean, ``output`` how results reach people and programs.
"""
