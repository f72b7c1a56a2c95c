"""The engine: receive, deliver, retry, doorbell, operations, runtime. Each is readable on one page."""
