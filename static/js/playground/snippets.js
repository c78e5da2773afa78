// The conversation as a program would send it.

function body(settings, messages) {
  const request = { model: settings.model === "auto" ? settings.persona || "auto" : settings.model, messages };
  if (settings.model !== "auto" && settings.persona) request.persona = settings.persona;
  if (settings.temperature !== "") request.temperature = Number(settings.temperature);
  if (settings.maxTokens !== "") request.max_tokens = Number(settings.maxTokens);
  if (Object.keys(settings.variables).length) request.variables = settings.variables;
  return request;
}

export function curl(settings, messages) {
  const json = JSON.stringify({ ...body(settings, messages), stream: true }, null, 2).replaceAll("'", "'\\''");
  return [
    `curl -N ${location.origin}/v1/chat/completions \\`,
    `  -H "Authorization: Bearer $ROUTER_API_KEY" \\`,
    `  -H "Content-Type: application/json" \\`,
    `  -d '${json}'`,
  ].join("\n");
}

// JSON strings and numbers are valid Python as they are; a request holds nothing else.
export function python(settings, messages) {
  const { model, messages: list, persona, variables, ...rest } = body(settings, messages);
  const own = JSON.stringify({ persona, variables }); // without those that are undefined
  const lines = list.map((message) => `        ${JSON.stringify(message)},`);
  const options = Object.entries(rest).map(([name, value]) => `    ${name}=${value},`);
  if (own !== "{}") options.push(`    extra_body=${own},`);
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${location.origin}/v1", api_key=os.environ["ROUTER_API_KEY"])`,
    "stream = client.chat.completions.create(",
    `    model=${JSON.stringify(model)},`,
    "    messages=[",
    ...lines,
    "    ],",
    ...options,
    "    stream=True,",
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    `        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
  ].join("\n");
}
