"""Language models as teachers: prompts, answers, a client of servers that speak OpenAI's protocol, and local models."""
