"""Everything that talks to language models: an OpenAI-compatible client whose replies
are validated or refused, and the journal through which every call goes."""
