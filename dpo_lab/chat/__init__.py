"""Another model, asked over HTTP as OpenAI's chat completions are, each question once: for whoever wants its words."""
