// What a decision says, in words: of the route as a whole, and of each candidate.

import { duration, money } from "./figures.js";

const STRATEGIES = {
  priority: "in order",
  weighted: "by weight",
  round_robin: "in turn",
  least_busy: "least busy first",
  lowest_cost: "cheapest first",
  lowest_latency: "quickest first",
  usage_based: "most headroom first",
  task_based: "by kind of work",
  best_quality: "best first",
  balanced: "quality against cost and time",
};
const STEPS = {
  cap: "a budget fills, so answers are shortened",
  cheaper: "a budget fills, so cheaper models go first",
  cache: "a budget fills, so only kept answers are given",
};
const PLAIN_REASONS = { chosen: "Fits the request and comes first.", fallback: "Serves if those before it fail." };

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

function taskText(task) {
  if (!task) return "";
  if (task.source === "rule") return `${task.label} (says a rule)`;
  return task.label === "ANY" ? "kind of work not sure" : `${task.label} (${percent(task.confidence)} sure)`;
}

/** One line: what the name led to, and what else decided. */
export function factsText(decision) {
  const facts = [
    decision.how,
    decision.policy && (STRATEGIES[decision.strategy] ?? decision.strategy),
    taskText(decision.task),
    decision.rule && `rule “${decision.rule}”`,
    decision.arm && `side ${decision.arm}`,
    STEPS[decision.step] ?? decision.step,
    decision.sticks && "stays with this conversation’s model",
  ];
  return facts.filter(Boolean).join(" · ");
}

/** Why a candidate stands where it stands, with the figures that were looked at. */
export function candidateText(candidate) {
  const { quality, latency_ms: latency, estimated_cost_nano: cost } = candidate;
  const figures = [
    typeof quality === "number" && `quality ${percent(quality)}`,
    typeof latency === "number" && duration(latency),
    typeof cost === "number" && `estimated ${money(cost / 1e9)}`,
  ].filter(Boolean);
  const reason = candidate.reason || PLAIN_REASONS[candidate.verdict] || "";
  const told = figures.join(", ");
  return [reason, told && `${told[0].toUpperCase()}${told.slice(1)}.`].filter(Boolean).join(" ");
}
