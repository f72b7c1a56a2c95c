"""Starting points: a site of one's own, and a system connected to it, as files that are then a person's to change.

Nothing here writes: every function gives the texts of files by name.
"""
