// First questions that show what a persona is for.

const SAMPLES = {
  code_assistant: [
    "Write a Python function that merges overlapping intervals, with tests.",
    "Explain what a race condition is, with a short example in Go.",
    "Review this SQL: SELECT * FROM orders WHERE date(created_at) = '2026-01-01'",
    "Turn a nested callback into async/await, step by step.",
  ],
  chatbot: [
    "What should I check before a long-haul flight?",
    "Explain compound interest as if I were twelve.",
    "Plan a quiet weekend in a city by the sea.",
    "Help me word a polite refusal of a meeting.",
  ],
  analyst: [
    "Compare renting and buying a flat over ten years in a table.",
    "Which figures tell whether a support team is overloaded?",
    "List the risks of moving a monolith to services, most likely first.",
    "Sign-ups fell 12 % in a week. What would you look at, and in which order?",
  ],
  creative_writer: [
    "Open a detective story in a lighthouse, in 120 words.",
    "Write four slogans for a bakery that opens at night.",
    "A short poem about a train that is always early.",
    "Describe rain on a tin roof without the word “rain”.",
  ],
};

const GENERAL = [
  "Give me three uses for a paper clip that nobody expects.",
  "Summarise the difference between TCP and UDP in a table.",
  "Write a haiku about a queue that never ends.",
  "Which questions should I ask before buying a used bicycle?",
];

export const samplesOf = (persona) => SAMPLES[persona] ?? GENERAL;
