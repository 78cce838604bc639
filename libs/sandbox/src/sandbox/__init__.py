"""The sandbox vendor: a stand-in for OpenAI and Anthropic that computes its answers."""
