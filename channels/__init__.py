"""Transports: one file each. A channel is a settings model, a Source or Sink, and a registration line."""
