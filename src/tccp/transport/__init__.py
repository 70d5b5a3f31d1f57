"""Where trio streams and protocol objects meet: TLS, certificates, connections."""
