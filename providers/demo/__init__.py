"""The demo provider: a loopback server that speaks the vendors' wires and needs no key, so that the platform is real.

    server        keys, the order of one request, the lists of models
    addresses     which wire is spoken where
    *_wire        bytes of one API, both ways: OpenAI's chat completions, responses and completions, Anthropic's
                  messages, Gemini, Cohere, Ollama; *_reading: requests, where both would be too long for one file
    *_embeddings  the same for vectors; vectors: how they are made
    exchange      what all wires share: models, Ask in, Reply out, Refusal, the counting of tokens
    replies       Ask + Markers -> Reply: text, tool calls, limits, usage
    answers       how a text answer is composed; json_answers: values for a JSON schema
    texts/        the words: TOML files for whoever wants to edit them
    markers       `[[name=value]]` in the last user message steers faults, pace and content
    playback      a Reply in time: first byte, pace, cut, hang; and the provider's own bills, to compare a ledger with

Nothing here knows the platform: it could be anyone's server. Guide: docs/demo-provider.md
"""
