"""The host's mind: decoded messages in, effects out; no socket, clock, thread or mapping."""
