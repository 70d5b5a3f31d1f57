"""The C core as Python functions, a module for each subject; alone in importing ``tccp._core``.

``tccp.core.quote``, ``tccp.core.certificate``, ``tccp.core.event_log``. Each function is named after the C
function that it calls (``tccp_quote_verify`` is ``quote.quote_verify``), whose contract is in the
subject's header (``csrc/tccp_quote.h``).
"""
