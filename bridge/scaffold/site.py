"""A site of one's own: the smallest site file that runs, to which systems are added."""

from __future__ import annotations

_SITE = """\
# The site file: which systems there are, how they are connected, and what goes where.
#
#   radbridge new system      adds a system and what connects it
#   radbridge check           tells every mistake at once, with its line and what to write instead
#   radbridge test            runs the cases beside the mappings
#   radbridge run             starts the engine
#
# Passwords do not belong in this file: write ${{NAME}} and set NAME in the environment; ${{NAME:-value}} has a default.

site:
  name: {name}
  timezone: {timezone}    # times in messages are local times of this zone

# `adapter` names a profile in adapters/: what a system of this kind usually needs.
systems:
  ct1: {{adapter: modality, ae_title: CT1}}    # asks for its worklist

# The ends that we open (-in) and the ends that we call (-out). Ours listen on this machine only (127.0.0.1) until you
# write another address.
channels:
  worklist:                   # modalities ask here for their worklist (DICOM)
    type: dicom-worklist
    listen: 127.0.0.1:11112
    ae_title: RADBRIDGE

# `from` a channel or system, `when` it is such a message, `to` these channels or systems, each with its mapping.
routes:

data: ../var              # the embedded database and the API token; folders are seen from this file
mappings: ../mappings     # translations, their test cases and code tables
adapters: ../adapters     # profiles of kinds of systems
"""


def site_text(name: str, timezone: str) -> str:
    """``config/bridge.yaml`` of a new site."""
    return _SITE.format(name=name, timezone=timezone)
