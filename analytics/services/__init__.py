"""Keep the derived figures true: rollups, alerts, providers judged by their traffic, the ledger's own check."""
