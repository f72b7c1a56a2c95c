"""HL7 v2 over TCP with MLLP framing: ``mllp-in`` listens for senders, ``mllp-out`` sends to one receiver."""

from __future__ import annotations

from bridge.ports import ChannelType
from channels.mllp_client import MllpOutSettings, MllpSink
from channels.mllp_server import MllpInSettings, MllpSource

MLLP_IN = ChannelType("mllp-in", "in", MllpInSettings, MllpSource)
MLLP_OUT = ChannelType("mllp-out", "out", MllpOutSettings, MllpSink)
