// Figures as the rest of the platform writes them (analytics/presentation.py).

const NBSP = "\u00a0";

export function money(usd) {
  if (usd === null || usd === undefined) return "unpriced";
  const amount = Number(usd);
  if (amount > 0 && amount < 0.00005) return "<$0.0001";
  return `$${amount.toFixed(amount > 0 && amount < 0.01 ? 4 : 2)}`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 10) return `${ms.toFixed(1)}${NBSP}ms`;
  return ms < 999.5 ? `${Math.round(ms)}${NBSP}ms` : `${(ms / 1000).toFixed(2)}${NBSP}s`;
}

export function tokens(count) {
  return count < 1000 ? `${count}` : `${(count / 1000).toFixed(1)}${NBSP}k`;
}

/** Output tokens per second of writing, the wait for the first one left out. */
export function pace(usage) {
  const seconds = (usage.latency_ms - (usage.ttft_ms ?? 0)) / 1000;
  return seconds > 0 && usage.output_tokens > 1 ? `${Math.round(usage.output_tokens / seconds)}${NBSP}tok/s` : null;
}
