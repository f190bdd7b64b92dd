"""Work on rows after a run: prune, erase, release from quarantine, export."""
