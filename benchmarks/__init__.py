"""What a request costs: CPU of the gateway's own processes, latency added, memory. Loopback only, bounded."""
