// What a person can do about an error that the gateway reports.

const ADVICE = {
  connection_lost: "The connection broke before the answer was complete. What was written so far was billed.",
  content_filter: "The provider refused the content. Word it differently.",
  context_length_exceeded: "The conversation is too long for the model. Start a new one, or choose a model with more room.",
  insufficient_quota: "The budget is used up. Ask for a higher one, or wait until it starts again.",
  invalid_api_key: "The sign-in of this page has run out. Reload it.",
  model_not_found: "This team has no such model. Choose another one, or “auto”.",
  no_eligible_model: "No model may serve this request. Choose another model or persona.",
  permission_denied: "The team's playground key may not do this. The operators can widen its scopes.",
  rate_limit_exceeded: "Too many requests at once. Wait a moment, then try again.",
  request_too_large: "Shorten the message, or start a new conversation.",
  unavailable: "The gateway is starting, or has no configuration yet. Try again in a moment.",
  upstream_credentials: "The operators must replace the provider's key; another model may work meanwhile.",
  upstream_overloaded: "Try again in a moment, or choose a model of another provider.",
  upstream_quota: "The operators must top up the account at the provider; another model may work meanwhile.",
  upstream_rate_limited: "The provider asks to slow down. Try again in a moment, or choose another model.",
  upstream_rejected: "The provider does not accept this request. Check temperature and max tokens.",
  upstream_timeout: "Try again, or choose a faster model.",
};

export const adviceFor = (code) =>
  ADVICE[code] ?? "Try again in a moment. If it stays, tell the operators the request id.";
