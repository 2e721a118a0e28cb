"""The LLM explainer: it proposes and writes, code applies and checks (method, section 4)."""
